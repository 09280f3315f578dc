"""Every sampler against the scheduler of diffusers it is named after, on an analytic model."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kinescribe.diffusion.denoiser import denoiser
from kinescribe.diffusion.samplers import plan, sample
from kinescribe.diffusion.schedule import MODELSCOPE, Schedule, ScheduleConfig

pytestmark = pytest.mark.slow  # importing diffusers takes seconds

PUBLISHED: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
CLASSES = {
    "ddim": ("DDIMScheduler", {"set_alpha_to_one": False, "clip_sample": False}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "heun": ("HeunDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
RATIO_SPACE = ("heun", "euler", "euler_a")  # diffusers keeps x / signal there
KINDS = {"scaled_linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}


def noise_model(x: Tensor, t: float) -> Tensor:
    return 0.9 * math.cos(t / 1000) * x + 0.1


def velocity_model(x: Tensor, t: float) -> Tensor:
    return 0.7 * math.sin(1 + t / 500) * x - 0.2 * torch.tanh(x) + 0.1


def theirs(
    name: str, steps: int, model: Any, start: Tensor, eta: float, **config: Any
) -> tuple[list[float], Tensor]:
    diffusers = pytest.importorskip("diffusers")
    cls, extra = CLASSES[name]
    scheduler = getattr(diffusers, cls)(**{**PUBLISHED, **extra, **config})
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(5)
    takes = scheduler.step.__code__.co_varnames
    keywords: dict[str, Any] = {"generator": generator} if "generator" in takes else {}
    if "eta" in takes:
        keywords["eta"] = eta
    x = start * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = model(scheduler.scale_model_input(x, t), float(t))
        x = scheduler.step(output, t, x, **keywords).prev_sample
    return [float(t) for t in scheduler.timesteps], x


def ours(
    name: str, steps: int, model: Any, start: Tensor, eta: float | None, config: ScheduleConfig
) -> tuple[list[float], Tensor]:
    path = plan(name, Schedule(config), steps)
    generator = torch.Generator().manual_seed(5)
    denoise = denoiser(lambda x, t, _: model(x, t), config.prediction)

    def fresh(_: int) -> Tensor:
        return torch.randn(start.shape, generator=generator)

    x = start
    for step in sample(name, denoise, path.start * start, path, noise=fresh, eta=eta):
        x = step.x
    return list(path.times), x


def compare(
    name: str, steps: int, *, eta: float | None = None, tolerance: float = 5e-5, **change: Any
) -> None:
    config = ScheduleConfig(**{**vars(MODELSCOPE), **change})
    model = noise_model if config.prediction == "noise" else velocity_model
    start = torch.randn(2, 4, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    asked: dict[str, Any] = {
        "prediction_type": {"noise": "epsilon", "velocity": "v_prediction"}[config.prediction],
        "beta_schedule": KINDS[config.kind],
    }
    if config.zero_terminal_snr:
        asked["rescale_betas_zero_snr"] = True
    if config.spacing is not None:
        asked["timestep_spacing"] = config.spacing
    if config.spacing == "karras":
        asked["timestep_spacing"], asked["use_karras_sigmas"] = "linspace", True
    if name == "ddim":
        asked["set_alpha_to_one"] = config.final == "clean"
    times, expected = theirs(name, steps, model, start, eta or 0.0, **asked)
    our_times, result = ours(name, steps, model, start, eta, config)
    if name == "heun":
        times = [times[0], *times[1::2]]
    assert our_times == pytest.approx(times, abs=2e-3 if config.spacing == "karras" else 1e-12)
    assert (result - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("steps", [1, 2, 7, 14, 25, 50])
@pytest.mark.parametrize("name", CLASSES)
def test_every_sampler_equals_its_diffusers_scheduler(name: str, steps: int) -> None:
    if steps == 1 and name in RATIO_SPACE:
        pytest.skip("one linspace step starts at t=0 there, at the noisiest step here")
    compare(name, steps)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("name", [name for name in CLASSES if name != "lcm"])
def test_spacings_equal_diffusers(name: str, spacing: str) -> None:
    compare(name, 10, spacing=spacing)


@pytest.mark.parametrize("name", CLASSES)
def test_velocity_prediction_equals_diffusers(name: str) -> None:
    compare(name, 20, prediction="velocity")


@pytest.mark.parametrize("spacing", ["trailing", None])
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "dpmpp_2m_sde", "euler", "euler_a", "unipc", "lcm"])
def test_zero_terminal_snr_equals_diffusers(name: str, spacing: str | None) -> None:
    compare(name, 10, prediction="velocity", zero_terminal_snr=True, spacing=spacing)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "euler", "unipc"])
def test_cosine_schedule_equals_diffusers(name: str) -> None:
    compare(name, 20, kind="cosine", prediction="velocity", zero_terminal_snr=True, final="clean")
    # without the rescale noise / signal reaches 2e4: in that space float32 keeps three digits of a clip
    compare(name, 20, kind="cosine", prediction="velocity", tolerance=1e-3 if name == "euler" else 5e-5)


@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_2m_sde", "euler", "heun", "unipc"])
def test_karras_levels_equal_diffusers(name: str) -> None:
    compare(name, 12, spacing="karras")


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_eta_equals_diffusers(eta: float) -> None:
    compare("ddim", 20, eta=eta)
    compare("ddim", 20, eta=eta, final="clean")
