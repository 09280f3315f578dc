import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import goldens
import kinescribe.compat.diffusers as door
from kinescribe.errors import OptionError
from kinescribe.media.read import read_video

pytestmark = pytest.mark.filterwarnings("ignore")

FOLDER = goldens.folder("text_to_video/diffusers")
PANDA = "A panda eating bamboo on a rock."


@pytest.fixture(scope="module")
def pipe() -> door.VideoToVideoSDPipeline:
    return door.VideoToVideoSDPipeline.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def clip() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (64, 96, 3), dtype=np.uint8)) for _ in range(3)]


def latents(pipe: door.VideoToVideoSDPipeline, video: Any, **options: Any) -> torch.Tensor:
    fixed = {"generator": torch.Generator().manual_seed(1), "output_type": "latent"}
    return pipe(PANDA, video, **{"num_inference_steps": 4, **fixed, **options}).frames


def zeroscope_xl(tmp_path: Path) -> Path:
    """The folder as zeroscope XL names its class."""
    folder = shutil.copytree(FOLDER, tmp_path / "zeroscope")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "VideoToVideoSDPipeline"}))
    return Path(folder)


def test_the_two_stages_of_the_zeroscope_page_run_but_for_import_and_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipe = door.DiffusionPipeline.from_pretrained(FOLDER, torch_dtype=torch.float16)
    pipe.enable_model_cpu_offload()
    pipe.unet.enable_forward_chunking(chunk_size=1, dim=1)
    pipe.enable_vae_slicing()
    prompt = "Darth Vader surfing a wave"
    # the page's frames are floats today, which PIL refuses: it means these
    video_frames = pipe(prompt, num_frames=2, num_inference_steps=1, output_type="pil").frames[0]

    pipe = door.DiffusionPipeline.from_pretrained(zeroscope_xl(tmp_path), torch_dtype=torch.float16)
    assert isinstance(pipe, door.VideoToVideoSDPipeline)
    pipe.scheduler = door.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.enable_model_cpu_offload()
    pipe.unet.enable_forward_chunking(chunk_size=1, dim=1)
    pipe.vae.enable_slicing()
    video = [frame.resize((96, 64)) for frame in video_frames]
    video_frames = pipe(prompt, video=video, strength=0.6, num_inference_steps=4).frames[0]
    written = read_video(door.export_to_video(video_frames, output_video_path="./video.mp4"))
    assert written.frames.shape == (2, 64, 96, 3)


def test_every_form_of_a_clip_gives_the_same_latents(
    pipe: door.VideoToVideoSDPipeline, clip: list[Image.Image]
) -> None:
    wanted = latents(pipe, clip)
    array = np.stack([np.asarray(frame) for frame in clip])
    tensor = torch.from_numpy(array / 255).movedim(-1, 1)
    floats = list(array.astype(np.float32) / 255)
    for form in (
        array,
        array / 255,
        list(array),
        floats,
        tensor,
        list(tensor),
        tensor[None],
        [clip],
        [array],
    ):
        assert (latents(pipe, form) - wanted).abs().max() <= 1e-4


def test_strength_says_how_many_of_the_steps_are_taken(
    pipe: door.VideoToVideoSDPipeline, clip: list[Image.Image]
) -> None:
    for strength, steps, taken in ((0.6, 10, 6), (0.35, 10, 3), (1.0, 4, 4), (1, 2, 2)):
        calls: list[int] = []

        def count(index: int, *_: torch.Tensor, calls: list[int] = calls) -> None:
            calls.append(index)

        latents(pipe, clip, strength=strength, num_inference_steps=steps, callback=count)
        assert calls == list(range(taken))


def test_little_strength_keeps_the_clip_and_much_does_not(
    pipe: door.VideoToVideoSDPipeline, clip: list[Image.Image]
) -> None:
    kept = latents(pipe, clip, strength=0.02, num_inference_steps=50)
    lost = latents(pipe, clip, strength=1.0, num_inference_steps=50 // 10)
    pixels = np.stack([np.asarray(frame) for frame in clip]) / 127.5 - 1
    vae = pipe._components.vae
    images = torch.from_numpy(pixels).movedim(-1, 1).float()
    own = (vae.config.scale * vae.encode(images).mean).movedim(0, 1)[None]
    assert (kept - own).abs().mean() < (lost - own).abs().mean() / 2


def test_half_steps_of_the_two_step_solver_begin_alone() -> None:
    from kinescribe.compat.diffusers.solvers import dpmpp_2s
    from kinescribe.diffusion.sdedit import tail

    solver = door.DPMSolverSinglestepScheduler.from_config(
        door.DDIMScheduler.from_pretrained(FOLDER, subfolder="scheduler").config
    )
    path = tail(solver.plan(6), 0.5)
    x = torch.ones(1)

    def estimate(x: torch.Tensor, level: Any, _t: float) -> torch.Tensor:
        return x * level.signal

    def run(skipped: int) -> list[float]:
        steps = dpmpp_2s(estimate, x, path, lambda _: x, 0.0, skipped=skipped)
        return [float(step.x) for step in steps]

    assert run(3) != run(2)
    assert run(3)[0] == run(2)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"video": None}, "video is missing"),
        ({"video": []}, "no frames"),
        ({"strength": 1.5}, "strength"),
        ({"strength": 0.1}, "strength"),
        ({"video": [Image.new("RGB", (90, 64))]}, "width=90: use a multiple of 8"),
        ({"video": np.zeros((2, 2, 64, 64, 3), np.uint8)}, "video holds 2 clips"),
        ({"video": [np.zeros((64, 64, 3)), np.zeros((64, 72, 3))]}, "different sizes"),
        ({"latents": torch.zeros(1, 4, 3, 8, 12)}, "leave them out"),
        ({"height": 64}, "unknown argument 'height': known are video, strength"),
        ({"prompt": ["a", "b"]}, "several prompts"),
        ({"video": 3}, "a clip of type int"),
    ],
)
def test_wrong_arguments_are_named(
    pipe: door.VideoToVideoSDPipeline, clip: list[Image.Image], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipe(**{"prompt": PANDA, "video": clip, "num_inference_steps": 4, **options})


def test_a_clip_of_several_generators_is_refused(
    pipe: door.VideoToVideoSDPipeline, clip: list[Image.Image]
) -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    with pytest.raises(OptionError, match="2 generators for 1 clips"):
        latents(pipe, clip, generator=generators)
    assert torch.equal(latents(pipe, clip, generator=generators[:1]), latents(pipe, clip))
