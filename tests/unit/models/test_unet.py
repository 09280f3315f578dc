"""The UNet: full-size counts, shapes, seams, and independence of what must not matter."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kinescribe.checkpoints.modelscope import UNET as FULL
from kinescribe.models.conditions import Conditioning, join
from kinescribe.models.unet import UNet, sinusoid
from kinescribe.ops import linear, parts
from kinescribe.pipelines.watch import first_bad_module

TINY = replace(
    FULL, width=16, multipliers=(1, 2), blocks_per_level=1, attention_levels=(True, False), head_dim=8,
    stem_heads=3, context_dim=12, groups=8,
)  # fmt: skip


def tiny(**changes: object) -> UNet:
    """A network whose every parameter is random: the zero initialisation would hide wrong wiring."""
    torch.manual_seed(0)
    unet = UNet(replace(TINY, **changes)).eval().double()  # type: ignore[arg-type]
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return unet


def inputs(b: int = 2, f: int = 3, h: int = 8, w: int = 4) -> tuple[Tensor, Tensor, Conditioning]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(b, 4, f, h, w, generator=g, dtype=torch.float64)
    tokens = torch.randn(b, 5, 12, generator=g, dtype=torch.float64)
    return x, torch.arange(b) * 300 + 7, Conditioning(tokens=tokens)


@pytest.mark.parametrize("row_padding", [1, 2])
def test_full_size_has_the_published_parameters(row_padding: int) -> None:
    with torch.device("meta"):
        unet = UNet(replace(FULL, row_padding=row_padding))
    assert sum(p.numel() for p in unet.parameters()) == 1_411_233_860
    assert len(unet.state_dict()) == 1480


@pytest.mark.parametrize(("h", "w"), [(8, 4), (7, 5), (1, 1), (9, 2)])
@pytest.mark.parametrize("f", [1, 2, 5])
@pytest.mark.parametrize("row_padding", [1, 2])
def test_any_size_and_length_keeps_its_shape(f: int, h: int, w: int, row_padding: int) -> None:
    x, t, conditioning = inputs(1, f, h, w)
    assert tiny(row_padding=row_padding)(x, t, conditioning).shape == x.shape


def test_published_folders_pad_one_row() -> None:
    assert FULL.row_padding == 1
    x, t, conditioning = inputs()
    padded = tiny(row_padding=2)(x, t, conditioning)
    assert not torch.allclose(padded, tiny()(x, t, conditioning))


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    unet, (x, t, conditioning) = tiny(), inputs()
    together = unet(x, t, conditioning)
    for i in range(2):
        alone = unet(x[i : i + 1], t[i : i + 1], Conditioning(tokens=conditioning.tokens[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone)


def test_memory_layout_of_the_input_does_not_matter() -> None:
    unet, (x, t, conditioning) = tiny(), inputs()
    strided = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(unet(x, t, conditioning), unet(strided, t, conditioning))


def test_every_seam_changes_the_answer() -> None:
    x, t, conditioning = inputs()
    unet = tiny(in_channels=6)
    concat = torch.ones(2, 2, 3, 8, 4, dtype=torch.float64)
    plain = unet(x, t, Conditioning(tokens=conditioning.tokens, concat=concat))
    variants = [
        Conditioning(tokens=conditioning.tokens + 1, concat=concat),
        Conditioning(tokens=conditioning.tokens, concat=concat * 2),
        Conditioning(tokens=conditioning.tokens, concat=concat, embedding=torch.ones(2, 64).double()),
        Conditioning(tokens=conditioning.tokens, concat=concat, hidden=torch.ones(2, 16, 3, 8, 4).double()),
    ]
    for variant in variants:
        assert not torch.allclose(unet(x, t, variant), plain)


def test_skip_filter_sees_every_skip_of_the_decoder_in_order() -> None:
    seen: list[tuple[int, int, int]] = []

    def note(block: int, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((block, x.shape[1], skip.shape[1]))
        return x, skip

    x, t, conditioning = inputs()
    filtered = UNet(TINY, skip_filter=note).eval().double()
    plain = UNet(TINY).eval().double()
    plain.load_state_dict(filtered.state_dict())
    torch.testing.assert_close(filtered(x, t, conditioning), plain(x, t, conditioning))
    assert seen == [(0, 32, 32), (1, 32, 16), (2, 32, 16), (3, 16, 16)]


def test_a_fresh_network_answers_with_its_bias_alone() -> None:
    torch.manual_seed(0)
    x, t, conditioning = inputs()
    unet = UNet(TINY).eval().double()
    expected = unet.head.bias.detach()[:, None, None, None].expand_as(x[0])
    torch.testing.assert_close(unet(x, t, conditioning)[0], expected)


def test_joined_conditions_keep_their_order_and_absences() -> None:
    first = Conditioning(tokens=torch.zeros(1, 2, 3), embedding=torch.zeros(1, 4))
    second = Conditioning(tokens=torch.ones(1, 2, 3), embedding=torch.ones(1, 4))
    both = join(first, second)
    assert both.tokens[:, 0, 0].tolist() == [0, 1]
    assert both.embedding is not None and both.concat is None and both.hidden is None
    assert both.map(lambda part: part + 1).tokens[0, 0, 0] == 1


def test_sinusoid_begins_with_cosines() -> None:
    out = sinusoid(torch.tensor([0, 10]), 4)
    assert out[0].tolist() == [1, 1, 0, 0]
    torch.testing.assert_close(out[1, 0], torch.tensor(10.0).cos())
    torch.testing.assert_close(out[1, 3], torch.tensor(0.1).sin())


@pytest.mark.parametrize("differs", ["text", "concat", "embedding"])
def test_two_texts_of_each_clip_give_what_a_doubled_batch_gives(differs: str) -> None:
    unet, (x, t, one) = tiny(in_channels=6), inputs()
    concat = torch.randn(2, 2, 3, 8, 4, generator=torch.Generator().manual_seed(2)).double()
    first = Conditioning(tokens=one.tokens, concat=concat, embedding=torch.ones(2, 64).double())
    second = replace(first, tokens=one.tokens * -2)
    if differs != "text":
        second = replace(second, **{differs: getattr(first, differs) * 3})
    both = join(first, second)
    doubled = Conditioning(
        tokens=both.tokens,
        concat=torch.cat([first.concat, second.concat]),  # type: ignore[list-item]
        embedding=torch.cat([first.embedding, second.embedding]),  # type: ignore[list-item]
    )
    wanted = unet(torch.cat([x, x]), torch.cat([t, t]), doubled)
    torch.testing.assert_close(unet(x, t, both), wanted)
    assert not torch.allclose(wanted[:2], wanted[2:])


def test_what_comes_before_the_text_is_done_once_for_two_texts() -> None:
    unet, (x, t, one) = tiny(), inputs()
    seen: list[int] = []
    for part in (unet.stem_temporal, unet.down[0].blocks[0].residual, unet.down[0].blocks[0].temporal):
        part.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    unet(x, t, join(one, Conditioning(tokens=one.tokens + 1)))
    assert seen == [2, 2, 4]


@pytest.mark.parametrize("clips", [1, 2])
def test_clips_lie_channels_last_all_the_way(clips: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, t, one) = tiny(), inputs(clips)
    already: list[bool] = []
    join_channels = parts.joined

    def spy(*both: Tensor) -> Tensor:
        already.extend(
            part.is_contiguous(memory_format=torch.channels_last_3d) and part.stride(1) == 1 for part in both
        )
        return join_channels(*both)

    monkeypatch.setattr(parts, "joined", spy)
    model(x, t, join(one, Conditioning(tokens=one.tokens + 1)))
    assert already == [True] * 8  # both inputs of each block of the decoder


def test_weights_laid_together_give_the_same_numbers() -> None:
    unet, (x, t, conditioning) = tiny(), inputs()
    wanted = unet(x, t, conditioning)
    before = {name: weight.clone() for name, weight in unet.state_dict().items()}
    unet.lay_together()
    with torch.inference_mode():
        torch.testing.assert_close(unet(x, t, conditioning), wanted)
    assert all(torch.equal(weight, before[name]) for name, weight in unet.state_dict().items())


def wants_no_gradients(*tensors: Tensor | None) -> bool:
    """What ``kernels_serve`` asks beside device and number format."""
    return not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors))


@pytest.mark.parametrize("wanted", [False, True])
def test_every_bias_is_added_once_whoever_wants_gradients(
    wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (x, t, told) = tiny().requires_grad_(False), inputs()
    plain = model(x, t, told)
    monkeypatch.setattr(linear, "kernels_serve", wants_no_gradients)
    tokens = told.tokens.clone().requires_grad_(wanted)
    with torch.set_grad_enabled(wanted):
        found = model(x, t, Conditioning(tokens=tokens))
    torch.testing.assert_close(found, plain)
    assert found.requires_grad == wanted


def test_an_attention_whose_bias_waits_is_still_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, t, told) = tiny(), inputs()
    monkeypatch.setattr(linear, "kernels_serve", lambda *_: True)
    with torch.inference_mode():
        model.middle.spatial.layer.attention1.out.weight[0, 0] = torch.inf
        assert first_bad_module(model, [(x, t, told)]) == "middle.spatial.layer.attention1"
