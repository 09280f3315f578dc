"""The schedulers of diffusers by name: their configurations in, our trajectories and samplers out.

A configuration remembers which of its values were written down and which were filled in, because diffusers
hands over only the former: the published folder names no ``timestep_spacing``, so DDIM takes its own
"leading" and DPM-Solver++ made from DDIM's configuration its own "linspace".
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from kinescribe.checkpoints.diffusers import schedule_config
from kinescribe.checkpoints.files import read_json
from kinescribe.compat.diffusers.solvers import dpmpp_2s, plms
from kinescribe.diffusion.denoiser import Denoise
from kinescribe.diffusion.samplers import SAMPLERS, Run, Step, StepNoise
from kinescribe.diffusion.schedule import CLEAN, Schedule, ScheduleConfig, Spacing
from kinescribe.diffusion.trajectory import Grid, Trajectory, trajectory
from kinescribe.errors import OptionError

_FILLED_IN = "_use_default_values"
_COMMON: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
}
_SPACED: dict[str, Any] = {**_COMMON, "timestep_spacing": "linspace", "steps_offset": 0}
_SIGMAS: dict[str, Any] = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}
_SOLVER: dict[str, Any] = {
    **_SIGMAS,
    "solver_order": 2,
    "thresholding": False,
    "use_flow_sigmas": False,
    "final_sigmas_type": "zero",
}
# What a key may hold; other values change numbers in ways that nobody uses this family with.
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
    "clip_sample": (False,),
    "euler_at_final": (False,),
    "final_sigmas_type": ("zero",),
    "interpolation_type": ("linear",),
    "original_inference_steps": (50,),
    "predict_x0": (True,),
    "sigma_max": (None,),
    "sigma_min": (None,),
    "skip_prk_steps": (True,),
    "solver_order": (2,),
    "solver_type": ("midpoint", "bh2", "logrho"),  # each class takes the others' for its own
    "solver_p": (None,),
    "thresholding": (False,),
    "timestep_scaling": (10.0,),
    "timestep_type": ("discrete",),
    "trained_betas": (None,),
    "use_beta_sigmas": (False,),
    "use_exponential_sigmas": (False,),
    "use_flow_sigmas": (False,),
    "use_lu_lambdas": (False,),
    "variance_type": (None,),
}


class SchedulerConfig(dict[str, Any]):
    """A scheduler's settings, by key or as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this scheduler has no setting {name!r}") from None


class Scheduler:
    """What the schedulers below share; ``config`` holds the settings.

    Raises ``OptionError`` for a setting that none of them has, or a value that ours cannot follow.
    """

    defaults: ClassVar[dict[str, Any]]
    sampler: ClassVar[str]
    grid: ClassVar[Grid] = "open"
    eta: ClassVar[float] = 0.0
    latents_in_ratio_space: ClassVar[bool] = False
    draws_float32: ClassVar[bool] = False

    def __init__(self, **settings: Any) -> None:
        unknown = sorted(name for name in settings if name not in _known_settings())
        if unknown:
            raise OptionError(f"{type(self).__name__} has no setting {unknown[0]!r}: leave it out")
        filled = sorted(set(self.defaults) - set(settings))
        named = {"_class_name": type(self).__name__}
        self.config = SchedulerConfig({**self.defaults, **settings, **named, _FILLED_IN: filled})
        for name in self.defaults:
            allowed = _ALLOWED.get(name, (self.config[name],))
            if self.config[name] not in allowed:
                wanted = " or ".join(map(repr, allowed))
                raise OptionError(
                    f"{type(self).__name__}: {name}={self.config[name]!r} is not supported: use {wanted}"
                )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **changes: Any) -> "Scheduler":
        """A scheduler with another's settings: those written down, not those it had filled in itself."""
        written = set(config) - set(config.get(_FILLED_IN, ()))
        given = {name: config[name] for name in written & _known_settings()}
        return cls(**{**given, **changes})

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, subfolder: str | None = None, **changes: Any
    ) -> "Scheduler":
        """A scheduler with the settings of a folder's ``scheduler_config.json``."""
        where = Path(folder) / (subfolder or "")
        return cls.from_config(read_json(where / "scheduler_config.json"), **changes)

    def schedule(self) -> Schedule:
        """The noise schedule of these settings; keys that this scheduler does not know do not count."""
        return Schedule(self._schedule_config())

    def plan(self, steps: int) -> Trajectory:
        """The steps diffusers would make, at most one model call more."""
        return trajectory(self.schedule(), self.grid, steps, self._spacing())

    def run(
        self, denoise: Denoise, x: Tensor, path: Trajectory, noise: StepNoise, eta: float, *, skipped: int = 0
    ) -> Iterator[Step]:
        """Run the sampler of these settings; ``eta`` counts for DDIM alone.

        ``skipped`` steps came before ``path``, of which it is a tail.
        """
        return self._loop(skipped)(denoise, x, path, noise, eta if self.sampler == "ddim" else self.eta)

    def _loop(self, _skipped: int) -> Run:
        return SAMPLERS[self.sampler].run

    def _schedule_config(self) -> ScheduleConfig:
        known = {name: self.config[name] for name in self.defaults}
        found = schedule_config(Path(type(self).__name__), {**known, "clip_sample": False})
        return replace(found, spacing=None)

    def _spacing(self) -> Spacing:
        spacing: Spacing = self.config["timestep_spacing"]
        if "use_karras_sigmas" not in self.defaults or not self.config["use_karras_sigmas"]:
            return spacing
        if self.grid == "fractional" and spacing != "linspace":
            name = type(self).__name__
            raise OptionError(
                f"{name}: Karras levels with spacing {spacing!r}: set timestep_spacing='linspace'"
            )
        return "karras"


class DDIMScheduler(Scheduler):
    """Denoising diffusion implicit models: what the published folder names."""

    sampler = "ddim"
    grid = "strided"
    defaults = {
        **_SPACED,
        "timestep_spacing": "leading",
        "clip_sample": False,
        "clip_sample_range": 1.0,
        "set_alpha_to_one": True,
        "thresholding": False,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "rescale_betas_zero_snr": False,
    }

    def plan(self, steps: int) -> Trajectory:
        """Every step lands a whole stride lower, wherever the next begins: diffusers takes it so."""
        return _strided(self.schedule(), super().plan(steps), steps)


class PNDMScheduler(Scheduler):
    """Pseudo linear multistep; the first of N steps asks the model twice."""

    sampler = "plms"
    grid = "strided"
    defaults = {
        **_SPACED,
        "timestep_spacing": "leading",
        "skip_prk_steps": True,
        "set_alpha_to_one": False,
    }

    def plan(self, steps: int) -> Trajectory:
        """As DDIM's."""
        for name, wanted in (("prediction_type", "epsilon"), ("timestep_spacing", "leading")):
            if self.config[name] != wanted:
                raise OptionError(
                    f"PNDMScheduler: {name}={self.config[name]!r} is not supported: use {wanted!r}, "
                    "or DDIMScheduler"
                )
        return _strided(self.schedule(), super().plan(steps), steps)

    def _loop(self, _skipped: int) -> Run:
        return plms


class DPMSolverMultistepScheduler(Scheduler):
    """DPM-Solver++(2M), or its stochastic form with ``algorithm_type="sde-dpmsolver++"``."""

    sampler = "dpmpp_2m"
    draws_float32 = True
    defaults = {
        **_SPACED,
        **_SOLVER,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "lower_order_final": True,
        "euler_at_final": False,
        "use_lu_lambdas": False,
        "variance_type": None,
        "rescale_betas_zero_snr": False,
    }

    def run(
        self,
        denoise: Denoise,
        x: Tensor,
        path: Trajectory,
        noise: StepNoise,
        eta: float,  # noqa: ARG002
        *,
        skipped: int = 0,
    ) -> Iterator[Step]:
        """The stochastic form is the same loop with as much fresh noise as ancestral sampling."""
        stochastic = self.config["algorithm_type"] == "sde-dpmsolver++"
        return self._loop(skipped)(denoise, x, path, noise, 1.0 if stochastic else 0.0)


class DPMSolverSinglestepScheduler(Scheduler):
    """DPM-Solver++(2S)."""

    sampler = "dpmpp_2s"
    defaults = {
        **_COMMON,
        **_SOLVER,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "lower_order_final": False,
        "variance_type": None,
    }

    def _loop(self, skipped: int) -> Run:
        if self.config["algorithm_type"] != "dpmsolver++":
            raise OptionError("DPMSolverSinglestepScheduler: algorithm_type must be 'dpmsolver++'")
        return partial(dpmpp_2s, skipped=skipped)

    def _spacing(self) -> Spacing:
        return "karras" if self.config["use_karras_sigmas"] else "linspace"


class UniPCMultistepScheduler(Scheduler):
    """UniPC of second order."""

    sampler = "unipc"
    defaults = {
        **_SPACED,
        **_SOLVER,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "predict_x0": True,
        "solver_type": "bh2",
        "lower_order_final": True,
        "solver_p": None,
        "rescale_betas_zero_snr": False,
    }


class EulerDiscreteScheduler(Scheduler):
    """Euler's method; the latents of callbacks are divided by their signal, as in diffusers."""

    sampler = "euler"
    grid = "fractional"
    latents_in_ratio_space = True
    defaults = {
        **_SPACED,
        **_SIGMAS,
        "interpolation_type": "linear",
        "sigma_min": None,
        "sigma_max": None,
        "timestep_type": "discrete",
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
    }


class EulerAncestralDiscreteScheduler(Scheduler):
    """Ancestral sampling with Euler steps."""

    sampler = "euler_a"
    grid = "fractional"
    eta = 1.0
    latents_in_ratio_space = True
    defaults = {**_SPACED, "rescale_betas_zero_snr": False}


class HeunDiscreteScheduler(Scheduler):
    """Heun's method: two model calls a step but for the last."""

    sampler = "heun"
    grid = "fractional"
    latents_in_ratio_space = True
    defaults = {
        **_SPACED,
        **_SIGMAS,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "clip_sample_range": 1.0,
    }


class LCMScheduler(Scheduler):
    """Latent consistency sampling, for models distilled for it."""

    sampler = "lcm"
    grid = "distilled"
    defaults = {
        **_SPACED,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "timestep_spacing": "leading",
        "timestep_scaling": 10.0,
        "original_inference_steps": 50,
        "clip_sample": False,
        "clip_sample_range": 1.0,
        "set_alpha_to_one": True,
        "thresholding": False,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "rescale_betas_zero_snr": False,
    }


SCHEDULERS: dict[str, type[Scheduler]] = {cls.__name__: cls for cls in Scheduler.__subclasses__()}
_BETAS = {"scaled_linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}
_PREDICTIONS = {"noise": "epsilon", "velocity": "v_prediction", "clean": "sample"}


def scheduler_of(folder: Path, schedule: ScheduleConfig) -> Scheduler:
    """The scheduler that a model folder names, or DDIM with the model's schedule if it names none."""
    path = folder / "scheduler" / "scheduler_config.json"
    if path.is_file():
        config = read_json(path)
        return SCHEDULERS.get(str(config.get("_class_name")), DDIMScheduler).from_config(config)
    settings = {
        "num_train_timesteps": schedule.train_steps,
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": _BETAS.get(schedule.kind),
        "prediction_type": _PREDICTIONS[schedule.prediction],
        "clip_sample": False,
        "set_alpha_to_one": schedule.final == "clean",
        "steps_offset": schedule.offset,
        "rescale_betas_zero_snr": schedule.zero_terminal_snr,
        "skip_prk_steps": True,
    }
    if schedule.spacing is not None:
        settings["timestep_spacing"] = schedule.spacing
    if settings["beta_schedule"] is None:
        raise OptionError(f"{folder}: diffusers has no schedule {schedule.kind}: use kinescribe.load instead")
    return DDIMScheduler(**settings)


def _strided(schedule: Schedule, path: Trajectory, steps: int) -> Trajectory:
    stride = schedule.config.train_steps // steps
    final = schedule.level(0) if schedule.config.final == "first" else CLEAN
    ends = [int(t) - stride for t in path.times]
    return replace(path, landings=tuple(schedule.level(end) if end >= 0 else final for end in ends))


def _known_settings() -> set[str]:
    extra = {"skip_prk_steps", "disable_corrector", "lambda_min_clipped", "flow_shift", "shift_terminal"}
    shifting = {"use_dynamic_shifting", "time_shift_type"}
    return {name for cls in SCHEDULERS.values() for name in cls.defaults} | extra | shifting
