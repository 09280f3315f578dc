"""A plan carried out: who is on the device in which stage, the same clip on every rung, one rung down once."""

import numpy as np
import pytest
import torch

from kinescribe.components import Components
from kinescribe.errors import KinescribeWarning, MemoryLimitError
from kinescribe.ops.slices import PIXELS
from kinescribe.perf.apply import Applied
from kinescribe.perf.plan import RUNGS, Plan, Rung
from kinescribe.pipelines.memory import stage
from kinescribe.pipelines.stages import in_parts
from kinescribe.pipelines.text_to_video import TextToVideoPipeline
from perf_requests import rung_named

CPU = torch.device("cpu")
"""In the place of a GPU: weights that wait lie in a pack of their own, which a test can ask for."""


def plan(rung: Rung) -> Plan:
    return Plan(rung=rung, pixels=PIXELS, stages=(), why="a test")


def present(components: Components, applied: Applied) -> set[str]:
    """The networks of which nothing waits in main memory."""
    packs = [*applied._packs.values(), *(applied._streamed._packs if applied._streamed else ())]
    waiting = {pack.host.untyped_storage().data_ptr() for pack in packs}
    networks = {"unet": components.unet, "vae": components.vae, "text": components.text}
    return {
        name
        for name, network in networks.items()
        if network is not None
        and not waiting & {p.untyped_storage().data_ptr() for p in network.parameters()}
    }


@pytest.mark.parametrize(
    ("rung", "stages"),
    [
        ("roomy", [{"unet", "vae", "text"}] * 3),
        ("sliced", [{"unet", "vae", "text"}] * 3),
        ("towers-out", [{"unet", "vae", "text"}, {"unet", "vae"}, {"unet", "vae"}]),
        ("by-stage", [{"text"}, {"unet"}, {"vae"}]),
        ("by-block", [{"text"}, set(), {"vae"}]),
    ],
)
def test_networks_are_on_the_device_while_the_plan_wants_them(
    components: Components, rung: str, stages: list[set[str]]
) -> None:
    applied = Applied(components, CPU, plan(rung_named(rung)), ())
    for _ in range(2):  # the second request finds them where the first left them
        found = []
        for name in ("reading the prompt", "denoising", "decoding"):
            applied.enter(name)
            found.append(present(components, applied))
        assert found == stages


def test_weights_come_back_as_they_were(components: Components) -> None:
    before = {name: p.clone() for name, p in components.unet.named_parameters()}
    applied = Applied(components, CPU, plan(rung_named("by-stage")), ())
    for name in ("denoising", "decoding"):
        applied.enter(name)
    after = dict(components.unet.named_parameters())
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_every_rung_makes_the_same_clip(components: Components, rung: Rung) -> None:
    wanted = TextToVideoPipeline(components)("a boat", seed=1).frames
    components.placement = Applied(components, CPU, plan(rung), ())
    components.placement.follow = lambda *_: None  # type: ignore[attr-defined]
    made = TextToVideoPipeline(components)("a boat", seed=1).frames
    assert np.abs(made.astype(int) - wanted).max() <= (0 if rung.merged else 1)


class Short:
    """A network that has room for one clip a pass, or for none."""

    def __init__(self, room: int) -> None:
        self.room, self.asked = room, list[str]()

    def __call__(self, x: torch.Tensor, _t: float, branch: str) -> torch.Tensor:
        self.asked.append(branch)
        if (2 if branch == "both" else 1) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.cat([x, x]) if branch == "both" else x


@pytest.mark.parametrize("place", [0, 1])
def test_memory_that_runs_out_takes_one_rung_down_and_says_so(components: Components, place: int) -> None:
    applied = Applied(components, CPU, plan(RUNGS[place]), RUNGS[place + 1 :])
    network, x = Short(1), torch.ones(1, 2)
    ask = in_parts(network, applied)
    with pytest.warns(KinescribeWarning, match=r"one after the other \(branches-apart\)"):
        assert ask(x, 0.0, "both").shape == (2, 2)
    assert applied.plan.rung.name == "branches-apart"
    ask(x, 0.0, "both")
    assert network.asked == ["both", *["negative", "positive"] * 2]


def test_a_second_time_is_the_end(components: Components) -> None:
    applied = Applied(components, CPU, plan(RUNGS[0]), RUNGS[1:])
    network = Short(0)
    ask = in_parts(network, applied)
    with (
        pytest.warns(KinescribeWarning),
        pytest.raises(MemoryLimitError, match="while denoising"),
        stage("denoising"),
    ):
        ask(torch.ones(1, 2), 0.0, "both")
    assert network.asked == ["both", "negative"]
    with pytest.raises(torch.OutOfMemoryError):
        ask(torch.ones(1, 2), 0.0, "both")


def test_from_the_last_rung_there_is_no_way_down(components: Components) -> None:
    applied = Applied(components, CPU, plan(RUNGS[-1]), ())
    with pytest.raises(torch.OutOfMemoryError):
        in_parts(Short(0), applied)(torch.ones(1, 2), 0.0, "positive")


def test_passes_are_recorded_where_weights_stay_and_branches_are_merged(components: Components) -> None:
    found = [Applied(components, CPU, plan(rung), ()).run is not components.unet for rung in RUNGS]
    assert found == [True, True, True, False, False, False, False]


def test_a_plan_that_asks_branches_apart_does(components: Components) -> None:
    network = Short(2)
    in_parts(network, Applied(components, CPU, plan(rung_named("branches-apart")), ()))(
        torch.ones(1, 2), 0.0, "both"
    )
    assert network.asked == ["negative", "positive"]
