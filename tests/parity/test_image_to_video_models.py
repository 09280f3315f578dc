"""Networks of image-to-video, second stages and I2VGen-XL against stored reference tensors, float32 CPU."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import goldens
from kinescribe.checkpoints.image_rows import image_condition_rows, vision_rows
from kinescribe.checkpoints.keymap import Foreign, Row, key_map, unet_rows, vae_rows
from kinescribe.checkpoints.modelscope import UNET
from kinescribe.checkpoints.read import open_weights
from kinescribe.media.crop import autoencoder_pixels, clip_pixels
from kinescribe.media.images import read_image
from kinescribe.models.conditions import Conditioning, SkipFilter
from kinescribe.models.image_conditions import ImageConditions, ImageConditionsConfig, with_ramp
from kinescribe.models.skip_filter import SR600, FourierSkipFilter
from kinescribe.models.unet import UNet, UNetConfig, sinusoid
from kinescribe.models.vae import AutoencoderKL, VAEConfig
from kinescribe.models.vision import VisionConfig, VisionEncoder

FAMILY = "image_and_video_to_video"
I2V_FILE = "i2v/base_03_alldata_fps_v_80g_0789000.pth"
V2V_FILE = "v2v/non_ema_0035000.pth"
XL_FILE = "i2vgen-xl/unet/diffusion_pytorch_model.fp16.safetensors"
SMALL = replace(UNET, width=32, blocks_per_level=1, head_dim=8)
I2V = replace(SMALL, multipliers=(1, 2), attention_levels=(True, False), context_dim=16)
V2V = replace(
    SMALL, multipliers=(1, 1, 1), attention_levels=(True, True, False), context_dim=8, row_padding=2
)
XL = replace(I2V, in_channels=8, multipliers=(1, 1), blocks_per_level=2)
CONDITIONS = ImageConditionsConfig(
    width=32, image_width=16, context_dim=16, image_tokens=4, local_channels=0, local_additions=0
)
VISION = VisionConfig(width=16, layers=3, heads=2, mlp_width=64, patch=32, size=224, embedding_width=16)
XL_VISION = replace(VISION, width=32, layers=2, mlp_width=128, patch=16, size=32)
VAE = VAEConfig(
    in_channels=3, latent_channels=4, width=32, multipliers=(1, 1, 1, 1), blocks_per_level=1, groups=32,
    scale=0.18215,
)  # fmt: skip


@cache
def expected() -> dict[str, Tensor]:
    return goldens.expected(FAMILY)


def filled(
    network: nn.Module, rows: Iterable[Row], layout: Foreign, file: str, prefix: str = ""
) -> nn.Module:
    weights = open_weights([goldens.folder(f"{FAMILY}/{file}")])
    keymap = key_map(network, rows, layout)
    network.load_state_dict(dict(keymap.to_ours(lambda name: weights.read(prefix + name).float())))
    return network.eval().requires_grad_(False)


def unet(config: UNetConfig, layout: Foreign, file: str, skip_filter: SkipFilter | None = None) -> nn.Module:
    return filled(UNet(config, skip_filter), unet_rows(config), layout, file)


def conditions(config: ImageConditionsConfig, layout: Foreign, file: str) -> nn.Module:
    return filled(ImageConditions(config), image_condition_rows(config), layout, file)


def vae(layout: Foreign, file: str) -> nn.Module:
    prefix = "first_stage_model." if layout == "modelscope" else ""
    return filled(AutoencoderKL(VAE), vae_rows(VAE), layout, file, prefix)


def assert_close(actual: Tensor, wanted: Tensor | str) -> None:
    wanted = expected()[wanted] if isinstance(wanted, str) else wanted
    torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=2e-5)


def frames(latents: Tensor) -> Tensor:
    """Scaled latents of one clip as unscaled ones, a frame each."""
    return latents[0].transpose(0, 1) / VAE.scale


def picture(file: str) -> np.ndarray:
    return read_image(goldens.folder(f"{FAMILY}/{file}"))


def told(network: nn.Module, image: Tensor) -> Conditioning:
    made: Conditioning = network(
        fps=torch.full((len(image),), 8), image=image, text=None, latents=None, frames=4
    )
    return made


def test_image_to_video_turns_a_picture_into_these_tokens() -> None:
    network, e = conditions(CONDITIONS, "modelscope", I2V_FILE), expected()
    assert_close(told(network, e["i2v.image_embed"]).tokens, "i2v.unet.context")
    assert_close(told(network, torch.zeros(1, 1, 16)).tokens, "i2v.unet.context_uncond")


def test_image_to_video_adds_the_frame_rate_to_the_time() -> None:
    network, trunk = conditions(CONDITIONS, "modelscope", I2V_FILE), unet(I2V, "modelscope", I2V_FILE)
    time = trunk.time_embedding(sinusoid(torch.tensor([801]), 32))
    assert_close(time + told(network, torch.zeros(1, 1, 16)).embedding, "i2v.unet.emb")


@pytest.mark.parametrize("branch", ["cond", "uncond"])
def test_image_to_video_unet_agrees(branch: str) -> None:
    network, e = conditions(CONDITIONS, "modelscope", I2V_FILE), expected()
    image = e["i2v.image_embed"] * (branch == "cond")
    out = unet(I2V, "modelscope", I2V_FILE)(e["i2v.noise"], torch.tensor([801]), told(network, image))
    assert_close(out, f"i2v.unet.out_{branch}")


def test_image_tower_of_a_whole_clip_file_agrees() -> None:
    tower = filled(
        VisionEncoder(VISION), vision_rows(VISION), "modelscope", "i2v/open_clip_pytorch_model.bin"
    )
    pixels = clip_pixels(picture("i2v/test_a.png"), crop=(448, 448), strict=True)
    assert_close(tower(torch.from_numpy(pixels)[None])[:, None], "i2v.image_embed")


def test_image_to_video_decoding_agrees() -> None:
    decoded = vae("modelscope", "i2v/v2-1_512-ema-pruned.ckpt").decode(frames(expected()["i2v.ddim.4.x"]))
    assert_close(decoded, "i2v.decoded")


@pytest.mark.parametrize(("tokens", "key"), [("v2v.y", "out_cond"), ("v2v.y_negative", "out_uncond")])
def test_second_stage_agrees_with_its_padded_rows(tokens: str, key: str) -> None:
    e, t = expected(), torch.tensor([599])
    out = unet(V2V, "modelscope", V2V_FILE)(e["v2v.noised"], t, Conditioning(tokens=e[tokens]))
    assert_close(out, f"v2v.unet.{key}")


def test_second_stage_needs_its_padded_rows() -> None:
    e, t = expected(), torch.tensor([599])
    plain = unet(replace(V2V, row_padding=1), "modelscope", V2V_FILE)
    out = plain(e["v2v.noised"], t, Conditioning(tokens=e["v2v.y"]))
    assert (out - e["v2v.unet.out_cond"]).abs().max() > 0.1


def test_filtered_second_stage_agrees() -> None:
    e, t = expected(), torch.tensor([599])
    filtered = unet(V2V, "modelscope", V2V_FILE, FourierSkipFilter(SR600))
    assert_close(filtered(e["v2v.noised"], t, Conditioning(tokens=e["v2v.y"])), "sr600.unet.out")


def test_second_stage_encoding_agrees() -> None:
    network, e = vae("modelscope", "v2v/v2-1_512-ema-pruned.ckpt"), expected()
    posterior = network.encode(e["v2v.resized"])
    mean, log_variance = e["v2v.vae.moments"].chunk(2, 1)
    assert_close(posterior.mean, mean)
    assert_close(posterior.std, (0.5 * log_variance).exp())
    latents = VAE.scale * posterior.sample(e["v2v.vae.eps"])
    assert_close(latents.transpose(0, 1)[None], "v2v.vae.latents")


def test_second_stage_decoding_agrees() -> None:
    network = vae("modelscope", "v2v/v2-1_512-ema-pruned.ckpt")
    assert_close(network.decode(frames(expected()["v2v.fast.result"])), "v2v.decoded")


@pytest.mark.parametrize(("additions", "key"), [(1, "xl.unet.out"), (2, "xl.vgen.unet.out")])
def test_i2vgen_xl_unet_agrees(additions: int, key: str) -> None:
    """diffusers adds the local channels once, VGen twice."""
    e = expected()
    config = replace(CONDITIONS, local_channels=4, local_additions=additions)
    made = conditions(config, "diffusers", XL_FILE)(
        fps=e["xl.fps"],
        image=e["xl.image_embeds"],
        text=e["xl.prompt_embeds"],
        latents=e["xl.image_latents"][:, :, 0],
        frames=4,
    )
    x, t = e["xl.latents"].repeat(2, 1, 1, 1, 1), torch.tensor([751, 751])
    assert_close(unet(XL, "diffusers", XL_FILE)(x, t, made), key)


def test_i2vgen_xl_image_tower_agrees() -> None:
    file = "i2vgen-xl/image_encoder/model.fp16.safetensors"
    tower = filled(VisionEncoder(XL_VISION), vision_rows(XL_VISION), "diffusers", file)
    pixels = clip_pixels(picture("i2vgen-xl/test.png"), crop=(64, 64), side=32, strict=True)
    assert_close(tower(torch.from_numpy(pixels)[None])[None], expected()["xl.image_embeds"][1:])


def test_i2vgen_xl_picture_becomes_these_latents() -> None:
    network = vae("diffusers", "i2vgen-xl/vae/diffusion_pytorch_model.fp16.safetensors")
    pixels = autoencoder_pixels(picture("i2vgen-xl/test.png"), 64, 64, strict=True)
    latents = VAE.scale * network.encode(torch.from_numpy(pixels)[None]).sample(
        expected()["xl.posterior_eps"]
    )
    assert_close(with_ramp(latents, 4), expected()["xl.image_latents"][1:])


@pytest.mark.parametrize(
    ("config", "told_by", "layout", "file"),
    [
        (I2V, CONDITIONS, "modelscope", I2V_FILE),
        (XL, replace(CONDITIONS, local_channels=4, local_additions=1), "diffusers", XL_FILE),
    ],
)
def test_trunk_and_conditions_share_a_file_without_rest(
    config: UNetConfig, told_by: ImageConditionsConfig, layout: Foreign, file: str
) -> None:
    trunk = key_map(UNet(config), unet_rows(config), layout).foreign_shapes
    beside = key_map(ImageConditions(told_by), image_condition_rows(told_by), layout).foreign_shapes
    assert not trunk.keys() & beside.keys()
    assert open_weights([goldens.folder(f"{FAMILY}/{file}")]).shapes == trunk | beside
