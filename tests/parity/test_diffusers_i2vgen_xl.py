"""Random I2VGen-XL folders that the installed diffusers writes: loaded here, their networks give the same numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kinescribe.checkpoints.convert import convert
from kinescribe.checkpoints.export import write_vocab_merges
from kinescribe.checkpoints.load import load_components
from kinescribe.components import Components
from kinescribe.models.tokenizer import Tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

NETWORK = 2e-5
"""Greatest difference allowed, as a share of the greatest output."""
FRAMES = 5
CASES: list[dict[str, Any]] = [
    {"seed": 1, "channels": [32, 64], "attention": [1, 0], "blocks": 1, "head": 8, "context": 32},
    {"seed": 2, "channels": [32, 64, 64], "attention": [1, 1, 0], "blocks": 2, "head": 16, "context": 16},
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
    context, cross = case["context"], ["CrossAttn" if attention else "" for attention in case["attention"]]
    unet = diffusers.I2VGenXLUNet(
        block_out_channels=case["channels"],
        layers_per_block=case["blocks"],
        down_block_types=[f"{kind}DownBlock3D" for kind in cross],
        up_block_types=[f"{kind}UpBlock3D" for kind in reversed(cross)],
        cross_attention_dim=context,
        attention_head_dim=case["head"],
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=[32] * 4,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1,
    )
    tower = {"hidden_act": "gelu", "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 64}
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(hidden_size=context, vocab_size=49408, **tower)
    )
    vision = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(
            hidden_size=48, projection_dim=context, image_size=42, patch_size=14, **tower
        )
    )
    write_vocab_merges(folder / "words", Tokenizer.clip())
    words = {
        name: str(folder / "words" / file)
        for name, file in (("vocab", "vocab.json"), ("merges", "merges.txt"))
    }
    pipe = diffusers.I2VGenXLPipeline(
        unet=shaken(unet),
        vae=shaken(vae),
        text_encoder=shaken(text),
        image_encoder=shaken(vision),
        tokenizer=transformers.CLIPTokenizer(**words, model_max_length=77),
        feature_extractor=transformers.CLIPImageProcessor(crop_size=42, size={"shortest_edge": 42}),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            clip_sample=False,
            steps_offset=1,
        ),
    )
    pipe.save_pretrained(folder / "model", safe_serialization=case["seed"] % 2 == 1)
    return folder / "model"


@pytest.fixture(params=CASES, ids=lambda case: f"seed{case['seed']}")
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Components, Path]:
    """Their pipeline and our components of one folder."""
    folder = write_folder(tmp_path, request.param)
    return (
        diffusers.I2VGenXLPipeline.from_pretrained(folder),
        load_components(folder, dtype=torch.float32),
        folder,
    )


def share(actual: Tensor, wanted: Tensor) -> float:
    difference = float((actual - wanted).abs().max() / wanted.abs().max())
    print(f"{difference:.1e}")  # noqa: T201 - evidence, shown with -s
    return difference


def inputs(context: int) -> dict[str, Tensor]:
    torch.manual_seed(7)
    ramp = torch.arange(1, FRAMES) / (FRAMES - 1)
    first = torch.randn(2, 4, 1, 8, 16)
    return {
        "sample": torch.randn(2, 4, FRAMES, 8, 16),
        "image_latents": torch.cat([first, ramp.view(1, 1, -1, 1, 1).expand(2, 4, -1, 8, 16)], 2),
        "image_embeddings": torch.randn(2, 1, context),
        "encoder_hidden_states": torch.randn(2, 77, context),
        "fps": torch.tensor([16, 5]),
    }


@torch.no_grad()
def ours(parts: Components, given: dict[str, Tensor]) -> Tensor:
    assert parts.conditions is not None
    told = parts.conditions(
        fps=given["fps"],
        image=given["image_embeddings"],
        text=given["encoder_hidden_states"],
        latents=given["image_latents"][:, :, 0],
        frames=FRAMES,
    )
    return parts.unet(given["sample"], torch.tensor([481, 481]), told)


@torch.no_grad()
def test_the_unet_predicts_what_theirs_does(pair: tuple[Any, Components, Path]) -> None:
    pipe, parts, _ = pair
    given = inputs(parts.unet.config.context_dim)
    wanted = pipe.unet(timestep=torch.tensor(481), return_dict=False, **given)[0]
    assert share(ours(parts, given), wanted) < NETWORK


@torch.no_grad()
def test_the_image_tower_sees_what_theirs_does(pair: tuple[Any, Components, Path]) -> None:
    pipe, parts, _ = pair
    assert parts.vision is not None
    pixels = torch.randn(2, 3, 42, 42)
    assert share(parts.vision(pixels), pipe.image_encoder(pixels).image_embeds) < NETWORK


@torch.no_grad()
def test_the_text_tower_stops_where_theirs_is_read(pair: tuple[Any, Components, Path]) -> None:
    pipe, parts, _ = pair
    tokenizer, text = parts.require_text()
    prompts = ["a red boat on the sea", ""]
    ids = pipe.tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    assert torch.equal(tokenizer(prompts).ids, ids)
    states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
    tower = getattr(pipe.text_encoder, "text_model", pipe.text_encoder)
    assert share(text(ids), tower.final_layer_norm(states)) < NETWORK


@torch.no_grad()
def test_a_folder_that_went_through_ours_gives_theirs_the_same(
    pair: tuple[Any, Components, Path], tmp_path: Path
) -> None:
    pipe, parts, folder = pair
    convert(folder, tmp_path / "own")
    convert(tmp_path / "own", tmp_path / "back", "diffusers")
    back = diffusers.I2VGenXLPipeline.from_pretrained(tmp_path / "back")
    given = inputs(parts.unet.config.context_dim)
    before, after = (p.unet(timestep=481, return_dict=False, **given)[0] for p in (pipe, back))
    assert torch.equal(before, after)
    pixels, ids = torch.randn(1, 3, 42, 42), torch.randint(0, 49000, (1, 77))
    assert torch.equal(pipe.image_encoder(pixels).image_embeds, back.image_encoder(pixels).image_embeds)
    states = [p.text_encoder(ids, output_hidden_states=True).hidden_states for p in (pipe, back)]
    assert torch.equal(states[0][-2], states[1][-2])
    assert torch.equal(states[1][-1], states[1][-2])  # the layer that is not kept does nothing
    assert back.scheduler.config.timestep_spacing == pipe.scheduler.config.timestep_spacing
    assert torch.equal(back.scheduler.alphas_cumprod, pipe.scheduler.alphas_cumprod)
