"""Random folders that the installed diffusers writes: same latents from our pipeline as from its own."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from kinescribe.checkpoints.convert import convert
from kinescribe.checkpoints.export import write_vocab_merges
from kinescribe.checkpoints.load import load_components
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.pipelines.text_to_video import Step, TextToVideoPipeline

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

TRAJECTORY = 5e-5
CROSS, PLAIN = "CrossAttn", ""
CASES: list[dict[str, Any]] = [
    # seed, channels, attention per level, blocks, head width, context, frames, height, width, prompt
    {"seed": 1, "channels": [32, 64], "attention": [1, 0], "blocks": 1, "head": 8, "context": 32,
     "frames": 3, "height": 64, "width": 64, "prompt": "a panda eating bamboo on a rock"},
    {"seed": 2, "channels": [32, 32, 64], "attention": [1, 1, 0], "blocks": 2, "head": 16, "context": 16,
     "frames": 5, "height": 72, "width": 104, "prompt": "Naïve café, 3 robots: dancing in the rain"},
    {"seed": 3, "channels": [64, 64], "attention": [0, 1], "blocks": 1, "head": 32, "context": 48,
     "frames": 1, "height": 40, "width": 136, "prompt": "word " * 90},
    {"seed": 4, "channels": [32, 64, 64, 64], "attention": [1, 1, 1, 0], "blocks": 2, "head": 32, "context": 64,
     "frames": 4, "height": 128, "width": 88, "prompt": "日本語 emoji 😀 test"},
]  # fmt: skip


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """Every parameter non-zero, so that no branch hides; norms stay near one."""
    for name, parameter in network.named_parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim > 1:
            parameter.data = noise * 0.8 / parameter[0].numel() ** 0.5
        else:
            parameter.data = 0.05 * noise + (1.0 if name.endswith("weight") else 0.0)
    return network.eval()


def write_folder(folder: Path, case: dict[str, Any]) -> Path:
    torch.manual_seed(case["seed"])
    cross = [CROSS if attention else PLAIN for attention in case["attention"]]
    unet = diffusers.UNet3DConditionModel(
        sample_size=case["height"] // 8,
        block_out_channels=case["channels"],
        layers_per_block=case["blocks"],
        down_block_types=[f"{kind}DownBlock3D" for kind in cross],
        up_block_types=[f"{kind}UpBlock3D" for kind in reversed(cross)],
        cross_attention_dim=case["context"],
        attention_head_dim=case["head"],
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=[32] * 4,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1,
    )
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            hidden_size=case["context"],
            intermediate_size=2 * case["context"],
            num_hidden_layers=2,
            num_attention_heads=4,
            hidden_act="gelu",
            vocab_size=49408,
        )
    )
    write_vocab_merges(folder / "words", Tokenizer.clip())
    words = folder / "words"
    tokenizer = transformers.CLIPTokenizer(
        vocab=str(words / "vocab.json"), merges=str(words / "merges.txt"), pad_token="!", model_max_length=77
    )
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipe = diffusers.TextToVideoSDPipeline(
        unet=shaken(unet),
        vae=shaken(vae),
        text_encoder=shaken(text),
        tokenizer=tokenizer,
        scheduler=scheduler,
    )
    pipe.save_pretrained(folder / "model", safe_serialization=case["seed"] % 2 == 1)
    return folder / "model"


def theirs(folder: Path, case: dict[str, Any], sampler: str, steps: int, noise: torch.Tensor) -> torch.Tensor:
    pipe = diffusers.TextToVideoSDPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    if sampler == "dpmpp_2m":
        pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    out = pipe(
        case["prompt"],
        height=case["height"],
        width=case["width"],
        num_frames=case["frames"],
        num_inference_steps=steps,
        guidance_scale=7.5,
        latents=noise.clone(),
        output_type="latent",
    )
    return out.frames  # type: ignore[no-any-return]


def ours(folder: Path, case: dict[str, Any], sampler: str, steps: int, noise: torch.Tensor) -> torch.Tensor:
    pipeline = TextToVideoPipeline(load_components(folder, dtype=torch.float32))
    sizes = {key: case[key] for key in ("height", "width", "frames")}
    steps_of = pipeline.stream(
        case["prompt"],
        **sizes,
        sampler=sampler,
        steps=steps,
        guidance=7.5,
        seed=0,
        noise=noise,
        negative_prompt="",
    )
    latents = torch.empty(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for item in steps_of:
            if isinstance(item, Step):
                latents = item.latents
                if item.index == item.total:
                    break
    return latents


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"seed{case['seed']}")
def test_latents_agree_with_diffusers_on_random_folders(tmp_path: Path, case: dict[str, Any]) -> None:
    folder = write_folder(tmp_path, case)
    generator = torch.Generator().manual_seed(case["seed"])
    shape = (1, 4, case["frames"], case["height"] // 8, case["width"] // 8)
    noise = torch.randn(shape, generator=generator)
    for sampler, steps in (("ddim", 4), ("dpmpp_2m", 6)):
        wanted = theirs(folder, case, sampler, steps, noise)
        actual = ours(folder, case, sampler, steps, noise)
        error = (wanted - actual).abs().max() / wanted.abs().max()
        print(f"{case['seed']} {sampler}: {error:.1e}")  # noqa: T201 - evidence, shown with -s
        assert error <= TRAJECTORY


def test_a_converted_folder_gives_diffusers_the_same_latents(tmp_path: Path) -> None:
    case = CASES[0]
    folder = write_folder(tmp_path, case)
    convert(folder, tmp_path / "ms", "modelscope")
    convert(tmp_path / "ms", tmp_path / "back", "diffusers")
    noise = torch.randn(1, 4, case["frames"], case["height"] // 8, case["width"] // 8)
    assert torch.equal(
        theirs(folder, case, "ddim", 2, noise), theirs(tmp_path / "back", case, "ddim", 2, noise)
    )
