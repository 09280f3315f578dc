"""The layer of both CLIP towers: who sees whom."""

import pytest
import torch

from kinescribe.models.tower import TowerLayer


@pytest.mark.parametrize("causal", [True, False])
def test_only_a_causal_layer_hides_later_tokens(causal: bool) -> None:
    torch.manual_seed(0)
    layer = TowerLayer(8, 2, 16, causal=causal).eval()
    x = torch.randn(1, 5, 8)
    changed = torch.cat([x[:, :3], torch.randn(1, 2, 8)], 1)
    assert torch.allclose(layer(x)[:, :3], layer(changed)[:, :3]) == causal
    assert layer(x).shape == x.shape
