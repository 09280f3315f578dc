"""The warning of a large model on a processor: only then, with minutes and gigabytes that follow the request."""

import re
from dataclasses import replace

import pytest

from kinescribe.components import Components
from kinescribe.options import text_to_video
from kinescribe.pipelines import estimate
from kinescribe.pipelines.estimate import PASS_FLOPS, PASS_PARAMETERS, matrix_speed, slow_processor_note
from kinescribe.pipelines.settings import Settings, resolve


@pytest.fixture
def job(components: Components) -> Settings:
    return replace(
        resolve(text_to_video(prompt="a boat", seed=1), components.spec),
        frames=16, width=256, height=256, steps=60, guidance=9.0,
    )  # fmt: skip


def numbers(note: str | None) -> tuple[int, int]:
    found = re.search(r"about (\d+) minutes and (\d+) GB", note or "")
    assert found, note
    return int(found[1]), int(found[2])


def test_a_small_model_is_no_matter(components: Components, job: Settings) -> None:
    assert slow_processor_note(components, job) is None


def test_time_and_memory_follow_the_request(
    components: Components, job: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = sum(weight.numel() for weight in components.unet.parameters())
    monkeypatch.setattr(estimate, "LARGE", 1)
    passes_a_minute = PASS_FLOPS * count / PASS_PARAMETERS / 60 / estimate.SHARE_OF_MATRIX_SPEED
    monkeypatch.setattr(estimate, "matrix_speed", lambda _: 2 * passes_a_minute)
    assert numbers(slow_processor_note(components, job))[0] == 60
    assert numbers(slow_processor_note(components, replace(job, guidance=1.0)))[0] == 30
    assert numbers(slow_processor_note(components, job, clips=3))[0] == 180
    longer = numbers(slow_processor_note(components, replace(job, frames=64)))
    assert longer[0] == 240 and longer[1] == 10


def test_the_speed_of_this_processor_is_a_plausible_number(components: Components) -> None:
    assert 1e8 < matrix_speed(components.dtype) < 1e15
