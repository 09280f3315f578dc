"""What is chosen follows what a device can do, on tensors that stand for those of a GPU."""

import pytest
import torch

from kinescribe.ops.select import Capability, standing_for, wide_head_pays


def tokens(width: int = 512, dtype: torch.dtype = torch.float16, device: str = "meta") -> torch.Tensor:
    return torch.empty(1, 4, width, dtype=dtype, device=device)


@pytest.mark.parametrize(
    ("capability", "pays"), [(None, False), ((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
@torch.inference_mode()
def test_a_wide_head_goes_by_products_on_newer_gpus(capability: Capability | None, *, pays: bool) -> None:
    with standing_for(capability):
        assert wide_head_pays(tokens(), 1) is pays
        assert wide_head_pays(tokens(dtype=torch.bfloat16), 1) is pays
        assert not wide_head_pays(tokens(device="cpu"), 1)


@torch.inference_mode()
def test_other_heads_and_full_precision_keep_the_fused_kernel() -> None:
    with standing_for((9, 0)):
        assert wide_head_pays(tokens(257), 1)
        assert not wide_head_pays(tokens(256), 1)
        assert not wide_head_pays(tokens(1024), 2)
        assert not wide_head_pays(tokens(dtype=torch.float32), 1)


def test_training_and_compilers_keep_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_for((9, 0)):
        assert not wide_head_pays(tokens(), 1)
        with torch.no_grad():
            assert wide_head_pays(tokens(), 1)
            monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
            assert not wide_head_pays(tokens(), 1)
