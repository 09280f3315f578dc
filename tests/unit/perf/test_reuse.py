"""Encoder propagation: exact where every step is a key step, and elsewhere what the decoder makes of a key step."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from conftest import tiny_components
from kinescribe.components import Components
from kinescribe.diffusion.guidance import EVERYWHERE, Interval
from kinescribe.diffusion.noise import Noise
from kinescribe.diffusion.samplers import plan
from kinescribe.diffusion.schedule import Schedule
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.perf.apply import Applied
from kinescribe.perf.plan import Plan
from kinescribe.perf.presets import EXACT, Speed
from kinescribe.perf.reuse import PUBLISHED, Policy, Reused, rest, whole
from kinescribe.pipelines.denoise import Conditions, Walk, branches, denoise, windows_of
from perf_requests import rung_named

EVERY = Policy(keys=tuple(range(50)), guided=EVERYWHERE)
NEVER = Policy(keys=(0,), guided=EVERYWHERE)
STEPS = 4


@pytest.fixture(scope="module")
def tiny() -> Components:
    return tiny_components()


def told(seed: int, *, pictures: bool = False) -> Conditioning:
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(1, 16, 3, 4, 4, generator=g) if pictures else None
    embedding = torch.randn(1, 64, generator=g) if pictures else None
    return Conditioning(tokens=torch.randn(1, 5, 16, generator=g), hidden=hidden, embedding=embedding)


def walked(
    components: Components,
    policy: Policy | None,
    sampler: str = "ddim",
    *,
    pictures: bool = False,
    **more: object,
) -> Tensor:
    path = plan(sampler, Schedule(components.schedule), STEPS)
    draws = Noise([3], (4, more.pop("frames", 3), 4, 4), device=torch.device("cpu"))  # type: ignore[arg-type]
    speed = EXACT if policy is None else Speed(reuse=policy)
    walk = Walk(path=path, sampler=sampler, noise=draws.step, guidance=3.0, speed=speed, **more)  # type: ignore[arg-type]
    conditions = branches(told(1, pictures=pictures), told(2, pictures=pictures))
    with torch.inference_mode():
        steps = list(denoise(components, path.start * draws.initial(), conditions, walk))
    return steps[-1].latents


@pytest.mark.parametrize("sampler", ["ddim", "heun", "unipc"])
def test_with_every_step_a_key_step_the_clip_is_exact(tiny: Components, sampler: str) -> None:
    assert torch.equal(walked(tiny, EVERY, sampler), walked(tiny, None, sampler))


def test_with_every_step_a_key_step_windows_and_other_conditions_are_exact(tiny: Components) -> None:
    windows = windows_of(5, 3, 1)
    assert torch.equal(
        walked(tiny, EVERY, frames=5, windows=windows), walked(tiny, None, frames=5, windows=windows)
    )
    assert torch.equal(walked(tiny, EVERY, pictures=True), walked(tiny, None, pictures=True))


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_with_few_key_steps_the_clip_is_near_and_another(tiny: Components, sampler: str) -> None:
    exact, near = walked(tiny, None, sampler), walked(tiny, NEVER, sampler)
    assert not torch.equal(exact, near)
    assert float((near - exact).norm() / exact.norm()) < 0.2


def apart(components: Components) -> Components:
    """The same model, whose branches of guidance run one after the other, as after memory ran out."""

    copy, rung = replace(components), replace(rung_named("branches-apart"), residence="always")
    copy.placement = Applied(
        copy, torch.device("cpu"), Plan(rung=rung, pixels=1 << 20, stages=(), why=""), ()
    )
    return copy


def test_branches_apart_keep_each_their_own(tiny: Components) -> None:
    together, separate = (walked(model, NEVER, "heun") for model in (tiny, apart(tiny)))
    torch.testing.assert_close(separate, together)


def test_between_key_steps_the_decoder_runs_on_what_the_last_one_left(tiny: Components) -> None:
    unet, positive = tiny.unet, told(1)
    g = torch.Generator().manual_seed(0)
    first, second = (torch.randn(1, 4, 3, 4, 4, generator=g) for _ in range(2))
    reused = Reused(tiny.through, {"positive": positive}, NEVER, 9)
    with torch.inference_mode():
        assert torch.equal(
            reused(first, torch.tensor([900.0]), positive), unet(first, torch.tensor([900.0]), positive)
        )
        reused.step = 1
        late = torch.tensor([500.0])
        _, *left = whole(unet, first, torch.tensor([900.0]), positive)
        wanted = rest(unet, late, *left, positive)[0]
        assert torch.equal(reused(second, late, positive), wanted)
        assert not torch.equal(wanted, unet(first, torch.tensor([900.0]), positive))  # told its own time


def test_the_prompts_branch_alone_takes_its_half_of_both(tiny: Components) -> None:
    conditions: Conditions = branches(told(1), told(2))
    x, t = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([700.0])
    reused = Reused(tiny.through, conditions, NEVER, 9)
    with torch.inference_mode():
        reused(x, t, conditions["both"])
        reused.step = 1
        both = reused(x, t, conditions["both"])
        torch.testing.assert_close(reused(x, t, conditions["positive"]), both[1:])
        counted = count_whole(reused)
        reused(x, t, conditions["negative"])
        assert counted == [1]  # for that nothing is kept by itself


def test_windows_keep_each_their_own(tiny: Components) -> None:
    positive, t = told(1), torch.tensor([700.0])
    first, second = torch.randn(2, 1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    reused = Reused(tiny.through, {"positive": positive}, NEVER, 9)
    with torch.inference_mode():
        key = []
        for step in (0, 1):
            reused.step = step
            for reused.window, x in enumerate((first, second)):
                key.append(reused(x, t, positive))
    assert torch.equal(key[0], key[2]) and torch.equal(key[1], key[3])
    assert not torch.equal(key[2], key[3])


def test_guidance_is_left_out_beyond_its_interval(tiny: Components) -> None:
    path = plan("ddim", Schedule(tiny.schedule), STEPS)
    ratios = sorted((now.ratio for now, _, _ in path), reverse=True)
    asked: list[int] = []
    unet_forward = tiny.unet.decode

    def watch(x: Tensor, *rest: object) -> Tensor:
        asked.append(len(x))
        return unet_forward(x, *rest)  # type: ignore[arg-type]

    tiny.unet.decode = watch  # type: ignore[method-assign,assignment]
    try:
        walked(tiny, Policy(keys=tuple(range(50)), guided=Interval(ratios[2], ratios[1])))
    finally:
        del tiny.unet.decode
    assert asked == [1, 2, 2, 1]


def test_the_published_key_steps() -> None:
    keys = [i for i in range(50) if PUBLISHED.is_key(i, 50)]
    assert keys == [0, 1, 2, 3, 5, 10, 15, 25, 35, 49]


@given(st.integers(1, 200))
def test_a_path_begins_and_ends_with_a_key_step_and_grows_sparser(total: int) -> None:
    keys = [i for i in range(total) if PUBLISHED.is_key(i, total)]
    assert keys[0] == 0 and keys[-1] == total - 1
    assert len(keys) <= len(PUBLISHED.keys) + 1
    assert len(keys) == total if total <= 4 else True


def count_whole(reused: Reused) -> list[int]:
    """How often the whole network runs from now on, in a list of one number."""
    through, count = reused._through, [0]

    def counting(work: object, given: tuple[Tensor, ...], told: Conditioning) -> tuple[Tensor, ...]:
        count[0] += work is whole
        return through(work, given, told)  # type: ignore[arg-type]

    reused._through = counting
    return count


def test_the_coarsest_level_of_the_decoder_is_kept_where_there_are_others(tiny: Components) -> None:
    torch.manual_seed(0)
    unet = UNet(replace(tiny.unet.config, multipliers=(1, 2), attention_levels=(True, False))).eval()
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t, late = torch.randn(1, 4, 3, 4, 4), torch.tensor([900.0]), torch.tensor([500.0])
    ran: list[int] = []
    for i, level in enumerate(unet.up):
        level.register_forward_hook(lambda *_, i=i: ran.append(i))
    with torch.inference_mode():
        answer, *left = whole(unet, x, t, told(1))
        assert ran == [0, 1] and torch.equal(answer, unet(x, t, told(1)))
        ran.clear()
        torch.testing.assert_close(rest(unet, t, *left, told(1))[0], answer)
        assert ran == [1]
        assert not torch.allclose(rest(unet, late, *left, told(1))[0], answer, rtol=1e-3)  # told its own time
