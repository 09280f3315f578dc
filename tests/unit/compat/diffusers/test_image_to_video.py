from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import goldens
import kinescribe.compat.diffusers as door
from kinescribe.compat.diffusers.utils import load_image
from kinescribe.errors import MemoryLimitError, OptionError
from kinescribe.media.read import read_video

pytestmark = pytest.mark.filterwarnings("ignore")

FOLDER = goldens.folder("image_and_video_to_video/i2vgen-xl")
BOAT = {"prompt": "a red boat on the sea", "negative_prompt": "blurry, ugly"}
SMALL: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 4, "num_inference_steps": 4}


@pytest.fixture(scope="module")
def pipe() -> door.I2VGenXLPipeline:
    return door.I2VGenXLPipeline.from_pretrained(FOLDER, variant="fp16")


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return goldens.expected("image_and_video_to_video")


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return load_image(FOLDER / "test.png")


def test_latents_and_frames_equal_the_stored_run_of_diffusers(
    pipe: door.I2VGenXLPipeline, expected: dict[str, torch.Tensor], image: Image.Image
) -> None:
    options = {**BOAT, **SMALL, "image": image, "target_fps": 16, "latents": expected["xl.latents"]}
    seen: list[torch.Tensor] = []
    torch.manual_seed(8888)
    last = pipe(**options, output_type="latent", callback=lambda *step: seen.append(step[2])).frames
    for index, latents in enumerate([*seen[:3], last]):
        wanted = expected[f"xl.ddim.{index}.x"]
        assert (latents - wanted).abs().max() <= 5e-5 * wanted.abs().max()
    torch.manual_seed(8888)
    frames = pipe(**options, output_type="np").frames
    assert frames.shape == (1, 4, 64, 64, 3)
    assert np.abs(frames[0] - expected["xl.frames"].numpy()).max() < 1e-4


def test_prompts_are_embedded_as_at_its_default_clip_skip(
    pipe: door.I2VGenXLPipeline, expected: dict[str, torch.Tensor]
) -> None:
    positive, negative = pipe.encode_prompt(BOAT["prompt"], negative_prompt=BOAT["negative_prompt"])
    assert negative is not None
    wanted = expected["xl.prompt_embeds"]
    assert (torch.cat([negative, positive]) - wanted).abs().max() <= 2e-5 * wanted.abs().max()


def test_the_model_card_runs_but_for_import_path_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline = door.I2VGenXLPipeline.from_pretrained(FOLDER, torch_dtype=torch.float16, variant="fp16")
    pipeline.enable_model_cpu_offload()
    image = load_image(str(FOLDER / "test.png")).convert("RGB")
    generator = torch.manual_seed(8888)
    # 50 steps of 16 frames of 1280 x 704 would take this test hours
    frames = pipeline(
        prompt="Papers were floating in the air on a table in the library",
        image=image,
        num_inference_steps=2,
        negative_prompt="Distorted, discontinuous, Ugly, blurry, low resolution, motionless, static",
        guidance_scale=9.0,
        generator=generator,
        height=64,
        width=128,
        num_frames=3,
    ).frames[0]
    assert [frame.size for frame in frames] == [(128, 64)] * 3
    assert Path(door.export_to_gif(frames)).is_file()
    assert len(read_video(door.export_to_gif(frames, "i2v.gif")).frames) == 3


def test_the_general_class_gives_the_one_that_the_folder_names() -> None:
    found = door.DiffusionPipeline.from_pretrained(FOLDER, variant="fp16")
    assert isinstance(found, door.I2VGenXLPipeline)
    assert isinstance(found, door.DiffusionPipeline)
    assert found.image_encoder.config.embedding_width == 16
    assert found.feature_extractor.crop_size == {"height": 32, "width": 32}


@pytest.mark.parametrize(
    ("kind", "folder", "said"),
    [
        ("I2VGenXLPipeline", "text_to_video/diffusers", "I2VGenXLPipeline runs I2VGen-XL"),
        ("TextToVideoSDPipeline", "image_and_video_to_video/i2vgen-xl", "runs text-to-video models"),
        ("VideoToVideoSDPipeline", "image_and_video_to_video/v2v", "kinescribe.load runs the others"),
        ("DiffusionPipeline", "image_and_video_to_video/i2v", "use kinescribe.load"),
        ("DiffusionPipeline", "image_and_video_to_video/v2v", "use kinescribe.load"),
    ],
)
def test_a_folder_of_another_kind_is_refused_before_it_is_loaded(
    kind: str, folder: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kinescribe.compat.diffusers.pipeline.load_components", lambda *_, **__: pytest.fail("it was loaded")
    )
    with pytest.raises(OptionError, match=said):
        getattr(door, kind).from_pretrained(goldens.folder(folder))


def test_the_latents_of_the_picture_follow_torchs_own_generator_alone(
    pipe: door.I2VGenXLPipeline, image: Image.Image
) -> None:
    def made(own: int, given: int) -> torch.Tensor:
        torch.manual_seed(own)
        generator = torch.Generator().manual_seed(given)
        return pipe(**BOAT, **{**SMALL, "num_inference_steps": 1}, image=image, generator=generator,
                    output_type="latent").frames  # fmt: skip

    first = made(1, 1)
    assert torch.equal(first, made(1, 1))
    assert not torch.equal(first, made(2, 1))
    assert not torch.equal(first, made(1, 2))


def test_a_picture_for_each_prompt_and_several_clips_of_each(
    pipe: door.I2VGenXLPipeline, image: Image.Image
) -> None:
    other = Image.effect_noise((80, 80), 90).convert("RGB")
    prompts = {"prompt": ["a boat", "a cat"], "negative_prompt": "blurry"}
    options = {**prompts, **SMALL, "num_inference_steps": 1, "output_type": "latent"}
    latents = torch.randn(1, 4, 4, 8, 8).expand(4, -1, -1, -1, -1)
    torch.manual_seed(3)
    four = pipe(**options, image=[image, other], num_videos_per_prompt=2, latents=latents).frames
    assert four.shape == (4, 4, 4, 8, 8)
    assert torch.equal(four[0], four[1])
    assert torch.equal(four[2], four[3])
    torch.manual_seed(3)
    same = pipe(**options, image=image, latents=latents[:2]).frames
    assert (same[0] - four[0]).abs().max() < 1e-5
    assert (same[1] - four[2]).abs().max() > 1e-3


def test_without_guidance_one_branch_is_asked_and_the_picture_counts(
    pipe: door.I2VGenXLPipeline, image: Image.Image
) -> None:
    sizes: list[int] = []
    handle = pipe._components.unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    pipe(**BOAT, **{**SMALL, "num_inference_steps": 1}, image=image, guidance_scale=1, output_type="latent")
    handle.remove()
    assert sizes == [1]


def test_target_fps_is_told_to_the_model(pipe: door.I2VGenXLPipeline, image: Image.Image) -> None:
    options = {**BOAT, **SMALL, "num_inference_steps": 1, "image": image, "output_type": "latent"}
    made = []
    for fps in (8, 8, 30):
        torch.manual_seed(0)
        made.append(pipe(**options, target_fps=fps).frames)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": None}, "image is missing"),
        ({"height": 100}, "height=100: use a multiple of 8"),
        ({"clip_skip": 2}, "clip_skip=2"),
        ({"target_fps": -1}, "target_fps=-1"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"image": torch.zeros(1, 64, 64)}, r"tensor of shape \(1, 64, 64\)"),
        ({"latents": torch.zeros(1, 4, 1, 8, 8)}, "latents have shape"),
        ({"prompt": "a", "prompt_embeds": torch.zeros(1, 77, 16)}, "either prompt or prompt_embeds"),
        ({"fps": 8}, "unknown argument 'fps': known are image"),
    ],
)
def test_wrong_arguments_are_named(
    pipe: door.I2VGenXLPipeline, image: Image.Image, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipe(**{**BOAT, **SMALL, "image": image, **options})


def test_the_default_layer_may_be_named_as_published(pipe: door.I2VGenXLPipeline, image: Image.Image) -> None:
    options = {**BOAT, **SMALL, "num_inference_steps": 1, "image": image, "output_type": "latent"}
    made = []
    for named in ({}, {"clip_skip": 1}):
        torch.manual_seed(0)
        made.append(pipe(**options, **named).frames)
    assert torch.equal(*made)


def test_three_pictures_for_two_prompts_are_refused(pipe: door.I2VGenXLPipeline, image: Image.Image) -> None:
    with pytest.raises(OptionError, match="3 images for 2 clips"):
        pipe(["a", "b"], [image] * 3, 64, 64, 16, 2, 1)


def test_memory_that_runs_out_in_reading_the_picture_is_named(
    pipe: door.I2VGenXLPipeline, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    for network in (pipe._components.vision, pipe._components.conditions):
        with monkeypatch.context() as patch:
            patch.setattr(network, "forward", exhausted)
            with pytest.raises(MemoryLimitError, match="while reading the picture"):
                pipe(**BOAT, **SMALL, image=image)
