"""Whole trajectories of the image and second-stage models, networks included, against stored latents."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import goldens
from kinescribe.checkpoints.image_rows import image_condition_rows
from kinescribe.checkpoints.keymap import Foreign, Row, key_map, unet_rows
from kinescribe.checkpoints.modelscope import UNET
from kinescribe.checkpoints.read import open_weights
from kinescribe.diffusion.brownian import BrownianNoise
from kinescribe.diffusion.denoiser import Branch, Predict, at_trained_levels, denoiser
from kinescribe.diffusion.samplers import plan, sample
from kinescribe.diffusion.schedule import MODELSCOPE, Schedule
from kinescribe.diffusion.sdedit import inversion, noised, second_stage
from kinescribe.models.conditions import Conditioning
from kinescribe.models.image_conditions import ImageConditions, ImageConditionsConfig
from kinescribe.models.skip_filter import SR600, FourierSkipFilter
from kinescribe.models.unet import UNet

FAMILY = "image_and_video_to_video"
E = goldens.expected(FAMILY)
GUIDED = 2e-3  # what a few guided steps make of rounding, as the stored numbers' own description says
I2V_FILE = "i2v/base_03_alldata_fps_v_80g_0789000.pth"
V2V_FILE = "v2v/non_ema_0035000.pth"
XL_FILE = "i2vgen-xl/unet/diffusion_pytorch_model.fp16.safetensors"
SMALL = replace(UNET, width=32, blocks_per_level=1, head_dim=8)
V2V = replace(
    SMALL, multipliers=(1, 1, 1), attention_levels=(True, True, False), context_dim=8, row_padding=2
)
I2V = replace(SMALL, multipliers=(1, 2), attention_levels=(True, False), context_dim=16)
XL = replace(I2V, in_channels=8, multipliers=(1, 1), blocks_per_level=2)
PICTURE = ImageConditionsConfig(
    width=32, image_width=16, context_dim=16, image_tokens=4, local_channels=0, local_additions=0
)
VELOCITY = replace(MODELSCOPE, prediction="velocity")
SECOND = Schedule(replace(VELOCITY, kind="logsnr_cosine_interpolated"))
ZERO_SNR = replace(VELOCITY, kind="cosine", zero_terminal_snr=True)


def filled(network: nn.Module, rows: Iterable[Row], layout: Foreign, file: str) -> nn.Module:
    weights = open_weights([goldens.folder(f"{FAMILY}/{file}")])
    keymap = key_map(network, rows, layout)
    network.load_state_dict(dict(keymap.to_ours(lambda name: weights.read(name).float())))
    return network.eval().requires_grad_(False)


def predicting(unet: nn.Module, both: Conditioning) -> Predict:
    """``both`` holds the negative condition first."""

    def predict(x: Tensor, t: float, branch: Branch) -> Tensor:
        rows = {"both": slice(None), "negative": slice(0, 1), "positive": slice(1, 2)}[branch]
        return unet(x, torch.full((len(x),), int(t)), both.map(lambda part: part[rows]))

    return predict


def second_stage_network(skip_filter: FourierSkipFilter | None = None) -> Predict:
    unet = filled(UNet(V2V, skip_filter), unet_rows(V2V), "modelscope", V2V_FILE)
    return predicting(unet, Conditioning(tokens=torch.cat([E["v2v.y_negative"], E["v2v.y"]])))


@pytest.mark.parametrize(("key", "sampler", "steps"), [("fast", "dpmpp_2m_sde", 4), ("heun", "heun", 3)])
def test_second_stage_ends_on_the_stored_latents(key: str, sampler: str, steps: int) -> None:
    path = second_stage(sampler, SECOND, steps)
    guided = denoiser(second_stage_network(), "velocity", guidance=7.5, rescale=0.2)
    noise = BrownianNoise([int(E["v2v.fast.brownian_entropy"])], (4, 4, 6, 8), path)
    start = noised(path, E["v2v.vae.latents"], E["v2v.noise"])
    *_, last = sample(sampler, at_trained_levels(guided, SECOND), start, path, noise=noise.step)
    assert (last.x - E[f"v2v.{key}.result"]).abs().max() < GUIDED


def test_inversion_takes_a_clip_up_the_stored_steps() -> None:
    path = inversion(Schedule(replace(VELOCITY, kind="cosine")), 3, strength=0.7)
    assert path.times == (0, 233, 466, 699)
    network = second_stage_network(FourierSkipFilter(SR600))
    denoise = denoiser(lambda x, t, _: network(x, t, "negative"), "velocity")
    steps = sample("ddim", denoise, E["v2v.vae.latents"], path, noise=lambda _: E["v2v.noise"])
    for i, step in enumerate(steps):
        assert (step.x - E[f"sr600.inversion.{i}"]).abs().max() < 5e-5


def test_image_to_video_ends_on_the_stored_latents() -> None:
    conditions = filled(ImageConditions(PICTURE), image_condition_rows(PICTURE), "modelscope", I2V_FILE)
    embeddings = torch.cat([torch.zeros(1, 1, 16), E["i2v.image_embed"]])
    both = conditions(fps=torch.full((2,), 8), image=embeddings, text=None, latents=None, frames=4)
    unet = filled(UNet(I2V), unet_rows(I2V), "modelscope", I2V_FILE)
    denoise = denoiser(predicting(unet, both), "velocity", guidance=3.0)
    path = plan("ddim", Schedule(VELOCITY), 5, "modelscope_strict")
    for i, step in enumerate(sample("ddim", denoise, E["i2v.noise"], path, noise=lambda _: E["i2v.noise"])):
        assert (step.x - E[f"i2v.ddim.{i}.x"]).abs().max() < GUIDED


@pytest.mark.parametrize(
    ("additions", "final", "key"), [(2, "first", "xl.vgen.ddim"), (1, "clean", "xl.ddim")]
)
def test_i2vgen_xl_ends_on_the_stored_latents(additions: int, final: str, key: str) -> None:
    """As VGen and as diffusers compute it; they differ in the picture's channels and in where the path ends."""
    config = replace(PICTURE, local_channels=4, local_additions=additions)
    conditions = filled(ImageConditions(config), image_condition_rows(config), "diffusers", XL_FILE)
    both = conditions(
        fps=E["xl.fps"],
        image=E["xl.image_embeds"],
        text=E["xl.prompt_embeds"],
        latents=E["xl.image_latents"][:, :, 0],
        frames=4,
    )
    unet = filled(UNet(XL), unet_rows(XL), "diffusers", XL_FILE)
    denoise = denoiser(predicting(unet, both), "velocity", guidance=9.0)
    path = plan("ddim", Schedule(replace(ZERO_SNR, final=final)), 4)
    assert list(path.times) == E["xl.ddim.timesteps"].tolist()
    for i, step in enumerate(sample("ddim", denoise, E["xl.latents"], path, noise=lambda _: E["xl.latents"])):
        assert (step.x - E[f"{key}.{i}.x"]).abs().max() < GUIDED
