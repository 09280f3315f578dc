from dataclasses import replace

import pytest
import torch

from conftest import tiny_components
from kinescribe.catalog import CATALOG
from kinescribe.perf.demand import Work, decoding, encoding
from kinescribe.perf.floor import clip_flops, matrix_speed, step_flops
from kinescribe.perf.outline import loaded, published

CPU = torch.device("cpu")
WORK = Work(frames=3, window=3, width=32, height=32, clips=1, guided=True, passes=2, encoded=0)
# Counted on the classes of diffusers, which repeat the products of the prompt's tokens for every frame.
PUBLISHED_PASS, REPEATED = 4.887105e12, 0.063e12


def test_guidance_doubles_a_step() -> None:
    model = loaded(tiny_components())
    assert step_flops(model, WORK) == 2 * step_flops(model, replace(WORK, guided=False)) > 0


def test_a_clip_is_its_steps_its_frames_and_its_prompts() -> None:
    model = loaded(tiny_components())
    ten = replace(WORK, passes=10)
    assert clip_flops(model, ten) - clip_flops(model, WORK) == 8 * step_flops(model, WORK)
    encoded = replace(WORK, encoded=3)
    assert clip_flops(model, encoded) - clip_flops(model, WORK) == 3 * encoding(model, WORK, 1).flops
    none = clip_flops(model, replace(WORK, passes=0)) - 3 * decoding(model, WORK, 1).flops
    assert 0 < none < step_flops(model, WORK)


@pytest.mark.slow
def test_a_step_of_the_published_model_has_the_published_operations() -> None:
    model = published(CATALOG["modelscope-1.7b"], torch.float16, torch.float16)
    work = Work(frames=16, window=16, width=256, height=256, clips=1, guided=False, passes=1, encoded=0)
    assert PUBLISHED_PASS - 1.1 * REPEATED < step_flops(model, work) <= PUBLISHED_PASS
    assert decoding(model, work, 1).flops == pytest.approx(0.6222e12, rel=0.01)


def test_the_speed_of_an_unlisted_device_is_measured_once() -> None:
    speed = matrix_speed(CPU, torch.float32)
    assert 1e8 < speed < 1e15 and matrix_speed(CPU, torch.float32) == speed


def test_the_speed_of_a_listed_device_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _=None: "NVIDIA H200")
    assert matrix_speed(torch.device("cuda"), torch.float16) == 790e12
