from dataclasses import replace

import pytest

from goldens import expected
from kinescribe.diffusion.samplers import SAMPLERS, plan
from kinescribe.diffusion.schedule import CLEAN, MODELSCOPE, Schedule
from kinescribe.errors import OptionError

EXPECTED = expected("text_to_video")
SCHEDULE = Schedule(MODELSCOPE)
KEYS = [key.removeprefix("timesteps.") for key in EXPECTED if key.startswith("timesteps.")]


@pytest.mark.parametrize("key", KEYS)
def test_times_equal_the_references(key: str) -> None:
    origin, solver, *spacing, steps = key.split("_")
    sampler = {"ddim": "ddim", "dpmpp": "dpmpp_2m"}[solver]
    asked = spacing[0] if spacing else {"modelscope": "modelscope_strict", "diffusers": None}[origin]
    path = plan(sampler, SCHEDULE, int(steps), asked)
    assert list(path.times) == EXPECTED[f"timesteps.{key}"].tolist()


@pytest.mark.parametrize("steps", [5, 10, 20, 25, 30, 50, 100])
def test_solver_ratios_equal_the_reference(steps: int) -> None:
    path = plan("dpmpp_2m", SCHEDULE, steps)
    ratios = [level.ratio for level in (*path.levels, path.landings[-1])]
    assert ratios == pytest.approx(
        EXPECTED[f"sigmas.diffusers_dpmpp_{steps}"].tolist(), rel=5e-6
    )  # float32 there


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "lcm"])
def test_exactly_the_steps_asked_for_and_always_downhill(sampler: str, spacing: str) -> None:
    schedules = [SCHEDULE, Schedule(replace(MODELSCOPE, zero_terminal_snr=True))]
    for schedule in schedules:
        for steps in (1, 2, 3, 7, 27, 30, 64, 81, 243, 333, 499, 501, 729, 999, 1000):
            path = plan(sampler, schedule, steps, spacing)
            assert len(path) == len(path.levels) == len(path.landings) == steps
            assert 0 <= path.times[-1] <= path.times[0] <= 999
            assert all(now > then for now, then in zip(path.times, path.times[1:], strict=False))
            assert path.landings[:-1] == path.levels[1:]


def test_only_the_original_spacing_makes_more_steps_than_asked() -> None:
    assert len(plan("ddim", SCHEDULE, 30, "modelscope_strict")) == 31
    assert len(plan("ddim", SCHEDULE, 30)) == 30


def test_a_schedule_spacing_holds_until_the_caller_says_otherwise() -> None:
    schedule = Schedule(replace(MODELSCOPE, spacing="trailing"))
    assert plan("dpmpp_2m", schedule, 4).times == (999, 749, 499, 249)
    assert plan("dpmpp_2m", schedule, 4, "linspace").times == (999, 749, 500, 250)


def test_a_shift_moves_trailing_times_towards_noise_and_leaves_the_others() -> None:
    shifted = Schedule(replace(MODELSCOPE, spacing="trailing", shift=3.0))
    assert plan("ddim", shifted, 4).times == (999, 899, 749, 499)
    assert plan("dpmpp_2m", shifted, 16).times[::4] == plan("euler", shifted, 4).times == (999, 899, 749, 499)
    assert plan("ddim", shifted, 4, "leading").times == plan("ddim", SCHEDULE, 4, "leading").times
    for steps in (1, 100, 250, 333, 334, 1000):
        path = plan("ddim", shifted, steps)
        assert len(set(path.times)) == steps and path.times[-1] <= 3000 / steps


def test_ddim_ends_where_the_checkpoint_says_and_solvers_on_the_clean_clip() -> None:
    clean = Schedule(replace(MODELSCOPE, final="clean"))
    assert plan("ddim", SCHEDULE, 10).landings[-1] == SCHEDULE.level(0)
    assert plan("ddim", clean, 10).landings[-1] == CLEAN
    assert plan("dpmpp_2m", SCHEDULE, 10).landings[-1] == CLEAN


def test_lcm_chooses_from_its_fifty_trained_steps() -> None:
    assert plan("lcm", SCHEDULE, 4).times == (999, 759, 499, 259)
    with pytest.raises(OptionError, match="steps=51"):
        plan("lcm", SCHEDULE, 51)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_outside_the_schedule_are_refused(steps: int) -> None:
    with pytest.raises(OptionError, match=f"steps={steps}"):
        plan("ddim", SCHEDULE, steps)


@pytest.mark.parametrize(
    ("sampler", "spacing"),
    [("ddim", "karras"), ("unipc", "modelscope_strict"), ("heun", "modelscope_strict")],
)
def test_a_spacing_foreign_to_the_sampler_is_refused(sampler: str, spacing: str) -> None:
    with pytest.raises(OptionError, match=f"spacing={spacing}"):
        plan(sampler, SCHEDULE, 10, spacing)
