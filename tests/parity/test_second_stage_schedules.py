"""Tables, noise and solvers of the second stage and its kin against stored numbers of the reference code."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import goldens
from kinescribe.diffusion.brownian import BrownianNoise
from kinescribe.diffusion.denoiser import Denoise, Predict, at_trained_levels, denoiser
from kinescribe.diffusion.noise import Noise, SecondStageNoise
from kinescribe.diffusion.samplers import plan, sample
from kinescribe.diffusion.schedule import MODELSCOPE, Level, Schedule
from kinescribe.diffusion.sdedit import noised, second_stage, tail

E = goldens.expected("image_and_video_to_video")
IMAGE_TO_VIDEO = replace(MODELSCOPE, prediction="velocity")
SCHEDULE = Schedule(replace(IMAGE_TO_VIDEO, kind="logsnr_cosine_interpolated"))
COSINE = replace(IMAGE_TO_VIDEO, kind="cosine")
SHAPE = (4, 4, 6, 8)
ENTROPY = int(E["v2v.fast.brownian_entropy"])
RUNS = {"fast": ("dpmpp_2m_sde", 4), "heun": ("heun", 3)}
DEFAULT_RUNS = {"fast_30": ("dpmpp_2m_sde", 30), "heun_50": ("heun", 50)}

# What the reference's own sampler made of `toy_network`, guidance 7.5, rescale 0.2, entropy 937055941807507097.
TOY_ENTROPY = 937055941807507097
TOY_RESULTS = {
    "fast_30": [-3.3746440, -3.0988393, -3.1601133, -2.7228575, -2.5885322, -2.9763830, -3.2482386, -2.5443401],
    "heun_50": [-2.3165903, -2.6228364, -2.6836669, -2.9900649, -2.1459725, -2.8354640, -2.4663932, -2.2806692],
}  # fmt: skip


def toy_network(x: Tensor, t: float, _: str) -> Tensor:
    """Two branches that differ by a constant."""
    out = 0.7 * math.sin(1 + t / 500) * x - 0.2 * torch.tanh(x)
    return out + torch.tensor([-0.3, 0.1]).view(2, 1, 1, 1, 1)


def guided(predict: Predict) -> Denoise:
    return denoiser(predict, "velocity", guidance=7.5, rescale=0.2)


def recorded(prefix: str) -> Iterator[dict[str, Tensor]]:
    """What the reference's network was given and what its answer stood for, call after call."""
    call = 0
    while f"{prefix}.{call}.x0" in E:
        yield {name: E[f"{prefix}.{call}.{name}"] for name in ("model_in", "x0")}
        call += 1


def test_second_stage_table_is_the_reference_to_the_bit() -> None:
    assert torch.equal(SCHEDULE.noise.float(), E["v2v.sigmas"])
    assert torch.equal(SCHEDULE.noise.float(), E["sr600.forward_sigmas"])
    assert torch.allclose(
        SCHEDULE.signal.float(), E["v2v.alphas"], rtol=1e-6, atol=1e-6
    )  # float32 roots there
    assert torch.equal(SCHEDULE.signal[-1].float(), E["v2v.alphas"][-1])


def test_inversion_table_is_the_reference_to_the_bit() -> None:
    assert torch.equal(Schedule(COSINE).noise.float(), E["sr600.reverse_sigmas"])


def test_image_to_video_tables_are_the_references() -> None:
    ours = Schedule(IMAGE_TO_VIDEO).signal ** 2
    assert torch.allclose(ours, E["i2v.ddim.alphas_cumprod"], rtol=1e-14, atol=0)
    ours = Schedule(replace(COSINE, zero_terminal_snr=True)).signal ** 2
    assert torch.allclose(ours, E["xl.vgen.alphas_cumprod"], rtol=1e-14, atol=0)
    assert torch.allclose(ours.float(), E["xl.ddim.alphas_cumprod"], rtol=0, atol=1e-6)  # float32 betas there


@pytest.mark.parametrize(("key", "run"), [*RUNS.items(), *DEFAULT_RUNS.items()])
def test_levels_are_the_references_to_the_bit(key: str, run: tuple[str, int]) -> None:
    path = second_stage(run[0], SCHEDULE, run[1])
    ratios = [level.ratio for level in (*path.levels, path.landings[-1])]
    assert torch.equal(torch.tensor(ratios, dtype=torch.float32), E[f"v2v.{key}.sigmas"])


@pytest.mark.parametrize(("key", "run"), DEFAULT_RUNS.items())
def test_times_are_the_references(key: str, run: tuple[str, int]) -> None:
    assert list(second_stage(run[0], SCHEDULE, run[1]).times) == E[f"v2v.{key}.timesteps"].tolist()


def test_second_stage_draws_are_the_references_to_the_bit() -> None:
    draws = SecondStageNoise([torch.Generator().manual_seed(8888)], SHAPE)
    assert torch.equal(draws.posterior(4)[0], E["v2v.vae.eps"])
    assert torch.equal(draws.initial(), E["v2v.noise"])
    assert draws.entropy() == [ENTROPY]


def test_brownian_noise_is_the_reference_to_the_bit() -> None:
    path = second_stage("dpmpp_2m_sde", SCHEDULE, 4)
    assert [path.levels[-1].ratio, path.levels[0].ratio] == pytest.approx(
        E["v2v.fast.brownian_span"].tolist(), rel=1e-15
    )
    noise = BrownianNoise([ENTROPY, 5, ENTROPY], SHAPE, path)
    for i in range(3):
        step = noise.step(i)
        assert torch.equal(step[:1], E[f"v2v.fast.{i}.noise"])
        assert torch.equal(step[2:], E[f"v2v.fast.{i}.noise"])


def test_offset_noise_is_the_reference_to_the_bit() -> None:
    assert torch.equal(Noise([8888], (4, 4, 8, 8), offset=0.1).initial(), E["i2v.noise"])


def test_a_clip_is_noised_as_in_the_reference() -> None:
    path = second_stage("heun", SCHEDULE, 3, consistent_start=True)
    start = noised(path, E["v2v.vae.latents"], E["v2v.noise"])
    assert (start - E["v2v.noised"]).abs().max() < 5e-7


@pytest.mark.parametrize(("key", "run"), RUNS.items())
def test_solvers_ask_and_end_where_the_reference_does(key: str, run: tuple[str, int]) -> None:
    path = second_stage(run[0], SCHEDULE, run[1])
    calls = recorded(f"v2v.{key}")
    times = []

    def replay(x: Tensor, _: Level, t: float) -> Tensor:
        call = next(calls)
        assert (x - call["model_in"]).abs().max() < 2e-6
        times.append(t)
        return call["x0"]

    start = noised(path, E["v2v.vae.latents"], E["v2v.noise"])
    noise = BrownianNoise([ENTROPY], SHAPE, path)
    *_, last = sample(run[0], replay, start, path, noise=noise.step)
    assert times == E[f"v2v.{key}.timesteps"].tolist()
    assert (last.x - E[f"v2v.{key}.result"]).abs().max() < 2e-6
    assert next(calls, None) is None


def test_guidance_and_its_rescale_are_the_references() -> None:
    denoise = at_trained_levels(
        guided(lambda *_: torch.cat([E["v2v.fast.0.v_uncond"], E["v2v.fast.0.v_cond"]])), SCHEDULE
    )
    clean = denoise(E["v2v.fast.0.model_in"], Level(0.6, 0.8), 599.0)
    assert (clean - E["v2v.fast.0.x0"]).abs().max() < 1e-6


@pytest.mark.parametrize(("key", "run"), DEFAULT_RUNS.items())
def test_whole_default_runs_are_the_references(key: str, run: tuple[str, int]) -> None:
    clip, eps = (torch.randn(1, 4, 2, 1, 1, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    path = second_stage(run[0], SCHEDULE, run[1])
    noise = BrownianNoise([TOY_ENTROPY], (4, 2, 1, 1), path)
    denoise = at_trained_levels(guided(toy_network), SCHEDULE)
    *_, last = sample(run[0], denoise, noised(path, clip, eps), path, noise=noise.step)
    assert last.x.flatten().tolist() == pytest.approx(TOY_RESULTS[key], abs=2e-5)


def test_image_to_video_steps_are_the_references() -> None:
    path = plan("ddim", Schedule(IMAGE_TO_VIDEO), 5, "modelscope_strict")
    assert list(path.times) == E["i2v.ddim.timesteps"].tolist()
    cleans = iter([E[f"i2v.ddim.{i}.x0"] for i in range(5)])
    steps = sample("ddim", lambda *_: next(cleans), E["i2v.noise"], path, noise=lambda _: E["i2v.noise"])
    for i, step in enumerate(steps):
        assert (step.x - E[f"i2v.ddim.{i}.x"]).abs().max() < 3e-6


def test_image_to_video_visits_the_references_times() -> None:
    for spacing in ("modelscope_strict", None):
        path = plan("ddim", Schedule(IMAGE_TO_VIDEO), 50, spacing)
        assert list(path.times) == E["i2v.ddim.timesteps_50"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, 7, 30, 100])
def test_brownian_noise_is_that_of_torchsde_to_the_bit(steps: int) -> None:
    torchsde = pytest.importorskip("torchsde", reason="the peer of the Brownian tree: pip install torchsde")
    path = second_stage("dpmpp_2m_sde", SCHEDULE, steps)
    ratios = torch.tensor([level.ratio for level in path.levels], dtype=torch.float32)
    noise = BrownianNoise([99], (4, 2, 3, 4), path)
    tree = torchsde.BrownianTree(
        t0=ratios[-1].item(), w0=torch.zeros(1, 4, 2, 3, 4), t1=ratios[0].item(), entropy=99
    )
    for i, (now, to) in enumerate(zip(ratios, ratios[1:], strict=False)):
        assert torch.equal(noise.step(i), -tree(to, now) / (to - now).abs().sqrt())


def diffusers_from_clip(
    name: str, steps: int, strength: float, clip: Tensor, eps: Tensor
) -> tuple[list[float], Tensor]:
    """The scheduler calls of `VideoToVideoSDPipeline`, on an analytic model."""
    diffusers = pytest.importorskip("diffusers")
    settings = {"clip_sample": False} if name == "DDIMScheduler" else {}
    scheduler = getattr(diffusers, name)(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, **settings
    )
    scheduler.set_timesteps(steps)
    first = max(steps - min(int(steps * strength), steps), 0)
    times = scheduler.timesteps[first * scheduler.order :]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first * scheduler.order)
    x = scheduler.add_noise(clip, eps, times[:1])
    for t in times:
        out = 0.9 * math.cos(float(t) / 1000) * scheduler.scale_model_input(x, t) + 0.1
        x = scheduler.step(out, t, x).prev_sample
    return [float(t) for t in times], x


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "strength"), [(25, 0.6), (50, 0.58), (10, 1.0), (7, 0.3)])
@pytest.mark.parametrize(
    ("sampler", "name", "settings"),
    [
        ("dpmpp_2m", "DPMSolverMultistepScheduler", {}),
        ("unipc", "UniPCMultistepScheduler", {}),
        ("euler", "EulerDiscreteScheduler", {}),
        ("heun", "HeunDiscreteScheduler", {}),
        ("ddim", "DDIMScheduler", {"final": "clean"}),
    ],
)
def test_starting_from_a_clip_equals_diffusers(
    sampler: str, name: str, settings: Any, steps: int, strength: float
) -> None:
    if name == "DDIMScheduler" and 1000 % steps:
        pytest.skip("diffusers' strides miss each other there")
    clip, eps = torch.randn(2, 2, 4, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    times, wanted = diffusers_from_clip(name, steps, strength, clip, eps)
    path = tail(plan(sampler, Schedule(replace(MODELSCOPE, **settings)), steps), strength)
    assert list(path.times) == pytest.approx([times[0], *times[1::2]] if sampler == "heun" else times)
    network = denoiser(lambda x, t, _: 0.9 * math.cos(t / 1000) * x + 0.1, "noise")
    *_, last = sample(sampler, network, noised(path, clip, eps), path, noise=lambda _: eps)
    assert (last.x - wanted).abs().max() <= 5e-5 * wanted.abs().max()
