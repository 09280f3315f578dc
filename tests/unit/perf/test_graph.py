"""Recordings as on a CUDA device, with a record that calls the UNet again; the real one is tested on a GPU."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from conftest import tiny_components
from kinescribe.models.blocks import Upsample
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.ops.linear_fp8 import in_eight_bits
from kinescribe.perf.fp8 import copies_of, forget
from kinescribe.perf.graph import MOST, RecordedDecoder, Recorder, Run
from kinescribe.perf.reuse import rest, whole


class Tape:
    """Counts recordings and replays; a replay works on the memory that the recording was given."""

    def __init__(self) -> None:
        self.made = self.played = 0

    def __call__(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Run, tuple[Tensor, ...]]:
        self.made += 1
        answers = work()

        def run() -> None:
            self.played += 1
            for answer, new in zip(answers, work(), strict=True):
                answer.copy_(new)

        return run, answers


@pytest.fixture(scope="module")
def unet() -> UNet:
    return tiny_components().unet


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def given(seed: int = 0, frames: int = 3, texts: int = 1) -> tuple[Tensor, Tensor, Conditioning]:
    g = torch.Generator().manual_seed(seed)
    told = Conditioning(
        tokens=torch.randn(texts, 5, 16, generator=g), embedding=torch.randn(1, 64, generator=g)
    )
    return torch.randn(1, 4, frames, 4, 4, generator=g), torch.randint(1000, (1,), generator=g).float(), told


def test_every_pass_gives_what_the_network_gives(unet: UNet) -> None:
    tape = Tape()
    recorder = Recorder(unet, tape)
    for seed in range(4):
        torch.testing.assert_close(recorder(*given(seed)), unet(*given(seed)))
    assert (tape.made, tape.played) == (1, 3)  # the first one ran plainly


def test_an_answer_stays_as_it_was_given(unet: UNet) -> None:
    recorder = Recorder(unet, Tape())
    recorder(*given(0))
    first = recorder(*given(1))
    kept = first.clone()
    recorder(*given(2))
    assert torch.equal(first, kept)


def test_what_is_told_is_copied_when_it_changes(unet: UNet) -> None:
    recorder, (x, t, told) = Recorder(unet, Tape()), given()
    other = replace(told, tokens=told.tokens + 1)
    for now in (told, told, other, other, told):
        torch.testing.assert_close(recorder(x, t, now), unet(x, t, now))


def test_each_shape_has_its_recording_and_the_oldest_go(unet: UNet) -> None:
    tape = Tape()
    recorder = Recorder(unet, tape)
    for frames in range(1, MOST + 2):
        for _ in range(3):
            recorder(*given(frames=frames))
    assert tape.made == MOST + 1
    recorder(*given(frames=MOST + 1))
    assert tape.made == MOST + 1
    recorder(*given(frames=1))
    assert tape.made == MOST + 2
    recorder(*given(frames=1, texts=2))
    assert tape.made == MOST + 2  # two texts are another shape, met for the first time


def test_weights_that_moved_are_recorded_anew() -> None:
    unet, tape = tiny_components().unet, Tape()
    recorder = Recorder(unet, tape)
    for _ in range(2):
        recorder(*given())
    unet.double().float()
    for _ in range(2):
        torch.testing.assert_close(recorder(*given()), unet(*given()))
    assert tape.made == 2


def test_on_a_processor_and_with_gradients_nothing_is_recorded(unet: UNet) -> None:
    plain = Recorder(unet)
    for _ in range(3):
        assert torch.equal(plain(*given()), unet(*given()))
    tape = Tape()
    with torch.inference_mode(False), torch.enable_grad():
        recorder = Recorder(unet, tape)
        for _ in range(3):
            recorder(*given())
    assert tape.made == 0


def test_forgotten_recordings_are_made_again(unet: UNet) -> None:
    tape = Tape()
    recorder = Recorder(unet, tape)
    for _ in range(2):
        recorder(*given())
    recorder.forget()
    for _ in range(2):
        recorder(*given())
    assert tape.made == 2


def test_parts_of_a_pass_are_recorded_each_for_itself(unet: UNet) -> None:
    tape = Tape()
    recorder = Recorder(unet, tape)
    for seed in range(4):
        x, t, told = given(seed)
        answer, *left = recorder.through(whole, (x, t), told)
        torch.testing.assert_close(answer, unet(x, t, told))
        later = t + 1
        found = recorder.through(rest, (later, *left), told)[0]
        torch.testing.assert_close(found, rest(unet, later, *whole(unet, x, t, told)[1:], told)[0])
    assert (tape.made, tape.played) == (2, 6)


def test_a_pass_in_eight_bits_has_a_recording_of_its_own(unet: UNet) -> None:
    tape, copies = Tape(), copies_of(unet)
    recorder = Recorder(unet, tape)
    for _ in range(3):
        exact = recorder(*given())
        with in_eight_bits(copies):
            near = recorder(*given())
        assert not torch.equal(exact, near)
    assert tape.made == 2
    forget(unet)


def test_a_pass_that_is_not_recorded_sees_weights_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinescribe.ops.upsample.phases_pay", lambda *_: True)
    with torch.inference_mode(False):
        unet = tiny_components().unet
    recorder, asked = Recorder(unet, Tape()), given()
    for _ in range(3):
        recorder(*asked)
    upsample = next(module for module in unet.modules() if isinstance(module, Upsample))
    before = unet(*asked)
    upsample.conv.weight.mul_(3)
    torch.testing.assert_close(recorder(*asked), unet(*asked))
    upsample.conv.weight.mul_(3)
    monkeypatch.setattr("kinescribe.perf.graph.MOST_ROWS", 0)
    large = recorder(*asked)
    monkeypatch.setattr("kinescribe.ops.upsample.phases_pay", lambda *_: False)
    torch.testing.assert_close(large, unet(*asked))
    assert not torch.allclose(large, before)


def test_a_recorded_decoder_gives_what_the_autoencoder_gives() -> None:
    vae, tape = tiny_components().vae, Tape()
    decoder = RecordedDecoder(vae, tape)
    for pictures in (3, 3, 3, 1, 1, 3):
        latents = torch.randn(pictures, 4, 5, 6)
        kept = decoder(latents)
        torch.testing.assert_close(kept, vae.decode(latents))
    first = kept.clone()
    decoder(torch.randn(3, 4, 5, 6))
    assert torch.equal(kept, first)  # an answer stays as it was given
    assert (tape.made, tape.played) == (2, 5)


def test_a_decoder_is_recorded_anew_when_its_weights_have_moved() -> None:
    vae, tape = tiny_components().vae, Tape()
    decoder, latents = RecordedDecoder(vae, tape), torch.randn(2, 4, 5, 6)
    for _ in range(2):
        decoder(latents)
    last = vae.decoder.head
    last.weight.data = last.weight.data.clone()
    for _ in range(2):
        decoder(latents)
    decoder.forget()
    decoder(latents)
    assert (tape.made, tape.played) == (2, 2)


def test_a_decoder_is_not_recorded_on_a_processor() -> None:
    vae = tiny_components().vae
    decoder, latents = RecordedDecoder(vae), torch.randn(2, 4, 5, 6)
    for _ in range(3):
        assert torch.equal(decoder(latents), vae.decode(latents))
