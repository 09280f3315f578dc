"""The published layouts of the image and second-stage models, loaded as users load them, against stored outputs."""

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from goldens import expected, folder
from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.convert import convert
from kinescribe.checkpoints.load import load_components
from kinescribe.components import Components
from kinescribe.media.crop import autoencoder_pixels, clip_pixels
from kinescribe.media.images import read_image
from kinescribe.models.conditions import Conditioning
from vgen_folder import write_vgen

FAMILY = "image_and_video_to_video"
SR600_FILE = "sr_step_110000_ema.pth"


def stored(name: str) -> Tensor:
    return golden()[name]


@cache
def golden() -> dict[str, Tensor]:
    return expected(FAMILY)


def loaded(name: str, **options: str) -> Components:
    return load_components(folder(f"{FAMILY}/{name}"), dtype=torch.float32, **options)  # type: ignore[arg-type]


def agree(name: str, actual: Tensor, wanted: Tensor) -> None:
    print(f"{name}: {(actual - wanted).abs().max():.1e}")  # noqa: T201 - evidence, shown with -s
    torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=2e-5)


@torch.no_grad()
def image_to_video(parts: Components, image: Tensor) -> Tensor:
    assert parts.conditions is not None and parts.spec.picture is not None
    told = parts.conditions(
        fps=torch.tensor([parts.spec.picture.condition_fps]), image=image, text=None, latents=None, frames=4
    )
    return parts.unet(stored("i2v.noise"), torch.tensor([801]), told)


@torch.no_grad()
def i2vgen_xl(parts: Components) -> Tensor:
    assert parts.conditions is not None
    told = parts.conditions(
        fps=stored("xl.fps"),
        image=stored("xl.image_embeds"),
        text=stored("xl.prompt_embeds"),
        latents=stored("xl.image_latents")[:, :, 0],
        frames=4,
    )
    return parts.unet(stored("xl.latents").repeat(2, 1, 1, 1, 1), torch.tensor([751, 751]), told)


@torch.no_grad()
def video_to_video(parts: Components, text: str) -> Tensor:
    return parts.unet(stored("v2v.noised"), torch.tensor([599]), Conditioning(tokens=stored(text)))


def test_image_to_video_predicts_the_stored_velocities() -> None:
    parts = loaded("i2v")
    agree("i2v.unet.out_cond", image_to_video(parts, stored("i2v.image_embed")), stored("i2v.unet.out_cond"))
    nothing = torch.zeros_like(stored("i2v.image_embed"))
    agree("i2v.unet.out_uncond", image_to_video(parts, nothing), stored("i2v.unet.out_uncond"))


@torch.no_grad()
def test_image_to_video_sees_its_picture_as_stored() -> None:
    parts, path = loaded("i2v"), folder(f"{FAMILY}/i2v") / "test_a.png"
    assert parts.vision is not None and parts.spec.picture is not None and parts.spec.picture.crop == 448
    side = parts.spec.picture.crop
    pixels = clip_pixels(read_image(path), crop=(side, side), side=parts.vision.config.size, strict=True)
    agree("i2v.image_embed", parts.vision(torch.from_numpy(pixels)[None])[:, None], stored("i2v.image_embed"))


@pytest.mark.parametrize(
    ("text", "wanted"), [("v2v.y", "v2v.unet.out_cond"), ("v2v.y_negative", "v2v.unet.out_uncond")]
)
def test_video_to_video_predicts_the_stored_velocities(text: str, wanted: str) -> None:
    agree(wanted, video_to_video(loaded("v2v"), text), stored(wanted))


@torch.no_grad()
def test_video_to_video_reads_its_prompts_as_stored() -> None:
    parts = loaded("v2v")
    tokenizer, tower = parts.require_text()
    assert parts.spec.refinement is not None
    prompt = "A panda is surfing on the sea" + parts.spec.refinement.positive_prompt
    tokens = tokenizer([prompt, parts.spec.defaults.negative_prompt])
    assert torch.equal(tokens.ids[:1], stored("v2v.tokens"))
    assert torch.equal(tokens.ids[1:], stored("v2v.tokens_negative"))
    for i, name in enumerate(("v2v.y", "v2v.y_negative")):
        agree(name, tower(tokens.ids[i : i + 1]), stored(name))


def test_a_bare_sr600_file_filters_its_skips(tmp_path: Path) -> None:
    source = folder(f"{FAMILY}/v2v")
    for name in ("open_clip_pytorch_model.bin", "v2-1_512-ema-pruned.ckpt"):
        (tmp_path / name).symlink_to(source / name)
    (tmp_path / SR600_FILE).symlink_to(source / "non_ema_0035000.pth")
    (tmp_path / "configuration.json").symlink_to(source / "configuration.json")
    parts = load_components(tmp_path / SR600_FILE, dtype=torch.float32)
    assert parts.spec is CATALOG["vgen-sr600"]
    agree("sr600.unet.out", video_to_video(parts, "v2v.y"), stored("sr600.unet.out"))


def test_i2vgen_xl_of_a_diffusers_folder_predicts_what_diffusers_does() -> None:
    agree("xl.unet.out", i2vgen_xl(loaded("i2vgen-xl", variant="fp16")), stored("xl.unet.out"))


@torch.no_grad()
def test_i2vgen_xl_reads_its_prompts_as_stored() -> None:
    tokenizer, tower = loaded("i2vgen-xl").require_text()
    tokens = tokenizer(["blurry, ugly", "a red boat on the sea"])
    assert torch.equal(tokens.ids, stored("xl.token_ids"))
    agree("xl.prompt_embeds", tower(tokens.ids), stored("xl.prompt_embeds"))


@torch.no_grad()
def test_i2vgen_xl_sees_its_picture_as_stored() -> None:
    parts = loaded("i2vgen-xl")
    image = read_image(folder(f"{FAMILY}/i2vgen-xl") / "test.png")
    assert parts.vision is not None and parts.spec.picture is not None and parts.spec.picture.crop is None
    pixels = clip_pixels(image, crop=(64, 64), side=parts.vision.config.size, strict=True)
    embedding = parts.vision(torch.from_numpy(pixels)[None])[:, None]
    agree("xl.image_embeds", embedding, stored("xl.image_embeds")[1:])
    frame = torch.from_numpy(autoencoder_pixels(image, 64, 64, strict=True))[None]
    latents = parts.vae.encode(frame).sample(stored("xl.posterior_eps"))
    agree("xl.image_latents", latents * parts.vae.config.scale, stored("xl.image_latents")[1:, :, 0])


def test_i2vgen_xl_of_vgens_files_predicts_what_vgen_does(tmp_path: Path) -> None:
    parts = load_components(
        write_vgen(folder(f"{FAMILY}/i2vgen-xl"), tmp_path / "models"), dtype=torch.float32
    )
    assert parts.source.startswith("vgen") and parts.spec is CATALOG["i2vgen-xl"]
    agree("xl.vgen.unet.out", i2vgen_xl(parts), stored("xl.vgen.unet.out"))


@pytest.mark.parametrize("name", ["i2v", "v2v", "i2vgen-xl"])
def test_a_native_copy_predicts_the_same_numbers(tmp_path: Path, name: str) -> None:
    convert(folder(f"{FAMILY}/{name}"), tmp_path / "m")
    before, after = loaded(name), load_components(tmp_path / "m", dtype=torch.float32)
    if name == "i2v":
        same = torch.equal(*(image_to_video(parts, stored("i2v.image_embed")) for parts in (before, after)))
    elif name == "v2v":
        same = torch.equal(*(video_to_video(parts, "v2v.y") for parts in (before, after)))
    else:
        same = torch.equal(*(i2vgen_xl(parts) for parts in (before, after)))
    assert same and before.model_hash == after.model_hash
