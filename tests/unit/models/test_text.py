"""The text tower: full-size count, causality, shapes."""

import torch

from kinescribe.checkpoints.modelscope import TEXT as FULL
from kinescribe.models.text import TextConfig, TextEncoder

TINY = TextConfig(vocabulary=40, width=16, layers=2, heads=2, mlp_width=32, context_length=9)


def test_full_size_has_the_published_parameters() -> None:
    with torch.device("meta"):
        text = TextEncoder(FULL)
    assert sum(p.numel() for p in text.parameters()) == 340_387_840


def test_a_token_does_not_see_later_ones() -> None:
    text = TextEncoder(TINY).eval()
    ids = torch.arange(9)[None]
    changed = ids.clone()
    changed[0, 5] = 30
    torch.testing.assert_close(text(ids)[:, :5], text(changed)[:, :5])
    assert not torch.allclose(text(ids)[:, 5:], text(changed)[:, 5:])


def test_features_are_normalised() -> None:
    out = TextEncoder(TINY).eval()(torch.arange(9)[None])
    torch.testing.assert_close(out.mean(-1), torch.zeros(1, 9), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(-1, correction=0), torch.ones(1, 9), atol=1e-2, rtol=0)
