"""The pipeline: what a request gives, what a seed means, what a failure says."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from goldens import folder
from kinescribe import TextToVideo, TextToVideoPipeline, Video
from kinescribe.components import Components
from kinescribe.errors import KinescribeWarning, MemoryLimitError, NumbersError, OptionError, PromptWarning
from kinescribe.models.conditions import Conditioning
from kinescribe.options import SAMPLER_NAMES
from kinescribe.pipelines.stages import foreign_script
from kinescribe.pipelines.text_to_video import Step

FOLDER = folder("text_to_video/diffusers")


@pytest.fixture
def pipe(components: Components) -> TextToVideoPipeline:
    warnings.simplefilter("ignore", KinescribeWarning)
    return TextToVideoPipeline(components)


def test_a_prompt_gives_a_clip_of_the_models_own_size(pipe: TextToVideoPipeline) -> None:
    video = pipe("a boat", seed=1)
    assert isinstance(video, Video)
    assert video.frames.shape == (3, 24, 32, 3)
    assert video.frames.dtype == np.uint8
    assert video.fps == 4


def test_the_clip_has_the_size_and_length_asked(pipe: TextToVideoPipeline) -> None:
    video = pipe("a boat", seed=1, frames=2, width=40, height=16, fps=12.5)
    assert video.frames.shape == (2, 16, 40, 3)
    assert video.fps == 12.5


def test_one_side_alone_keeps_the_aspect(pipe: TextToVideoPipeline) -> None:
    assert pipe("a boat", seed=1, width=64).size == (64, 48)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(pipe: TextToVideoPipeline) -> None:
    first, again, other = (pipe("a boat", seed=seed).frames for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_video_i_of_a_list_uses_seed_plus_i_whatever_the_batch(pipe: TextToVideoPipeline) -> None:
    prompts = ["a boat", "two", "a boat", "a", "of", "the"]
    together = pipe(prompts, seed=3)
    assert len(together) == 6
    for i in (0, 1, 5):
        alone = pipe(prompts[i], seed=3 + i)
        gap = np.abs(alone.frames.astype(int) - together[i].frames.astype(int)).max()
        assert gap <= 1
        assert together[i].recipe == alone.recipe


def test_stream_yields_every_step_and_then_the_video(pipe: TextToVideoPipeline) -> None:
    *steps, video = pipe.stream("a boat", seed=1, steps=4)
    assert [step.index for step in steps] == [1, 2, 3, 4]
    assert all(isinstance(step, Step) and step.total == 4 for step in steps)
    assert steps[0].t > steps[-1].t
    assert steps[-1].latents.shape == (1, 4, 3, 3, 4) == steps[-1].clean.shape
    assert isinstance(video, Video)


def test_options_are_checked_before_any_work(pipe: TextToVideoPipeline) -> None:
    with pytest.raises(OptionError, match="steps=0"):
        pipe.stream("a boat", steps=0)


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_every_sampler_makes_a_clip_in_exactly_the_steps_asked(
    pipe: TextToVideoPipeline, sampler: str
) -> None:
    *steps, video = pipe.stream("a boat", seed=1, sampler=sampler, steps=5)
    assert len(steps) == 5
    assert isinstance(video, Video)


def test_guidance_up_to_one_skips_the_negative_pass(components: Components) -> None:
    rows: list[int] = []
    components.unet.register_forward_pre_hook(lambda _module, args: rows.append(len(args[2].tokens)))
    pipe = TextToVideoPipeline(components)
    pipe("a boat", seed=1, guidance=1.0, steps=2)
    pipe("a boat", seed=1, guidance=2.0, steps=2)
    assert rows == [1, 1, 2, 2]


def test_given_noise_replaces_the_seeds_own(pipe: TextToVideoPipeline) -> None:
    own = torch.randn(1, 4, 3, 3, 4, generator=torch.Generator().manual_seed(5))
    assert np.array_equal(pipe("a boat", seed=9, noise=own).frames, pipe("a boat", seed=5).frames)
    with pytest.raises(OptionError, match="noise has shape"):
        pipe("a boat", seed=9, noise=own[:, :, :2])


def test_the_recipe_makes_the_same_frames_again(pipe: TextToVideoPipeline) -> None:
    video = pipe("a boat")
    request = TextToVideo.model_validate(video.recipe["request"])
    assert np.array_equal(pipe(request).frames, video.frames)
    assert pipe(request).recipe == video.recipe


def test_numbers_that_are_not_finite_name_step_and_module(components: Components) -> None:
    with torch.no_grad():
        components.unet.middle.enter.conv1.bias[0] = torch.nan
    with pytest.raises(NumbersError, match=r"step 1 of 3 .*middle.enter.conv1") as caught:
        TextToVideoPipeline(components)("a boat", seed=1)
    assert caught.value.exit_code == 5


def test_an_overflowing_decoder_is_tried_again_in_float32(components: Components) -> None:
    components.vae.half()
    plain = components.vae.decode
    kinds: list[torch.dtype] = []

    def decode(latents: torch.Tensor) -> torch.Tensor:
        kinds.append(latents.dtype)
        return plain(latents) * (torch.nan if latents.dtype == torch.float16 else 1.0)

    components.vae.decode = decode  # type: ignore[method-assign]
    with pytest.warns(KinescribeWarning, match="decoded again in float32"):
        TextToVideoPipeline(components)("a boat", seed=1)
    assert kinds == [torch.float16, torch.float32]
    assert components.vae.quantise.weight.dtype == torch.float16


def test_a_decoder_that_never_gives_numbers_is_an_error(components: Components) -> None:
    with torch.no_grad():
        components.vae.decoder.head.bias[0] = torch.inf
    with pytest.raises(NumbersError, match="autoencoder"):
        TextToVideoPipeline(components)("a boat", seed=1)


def test_a_clip_longer_than_trained_warns_once_and_goes_on(pipe: TextToVideoPipeline) -> None:
    with pytest.warns(KinescribeWarning, match="trained on 4"):
        assert len(pipe("a boat", seed=1, frames=6).frames) == 6


def test_words_cut_off_or_unknown_are_named(pipe: TextToVideoPipeline) -> None:
    with pytest.warns(KinescribeWarning, match="does not know 'zeppelin'"):
        pipe("a zeppelin", seed=1)
    with pytest.warns(KinescribeWarning, match="not seen: 'the"):
        pipe("of " * 10 + "the", seed=1)


def test_a_prompt_in_other_letters_is_one_warning(pipe: TextToVideoPipeline) -> None:
    with pytest.warns(KinescribeWarning, match="not in Latin letters") as seen:
        pipe("一只熊猫在吃竹子", seed=1)
    assert len([w for w in seen if issubclass(w.category, KinescribeWarning)]) == 1


def test_an_empty_list_of_prompts_is_an_error(pipe: TextToVideoPipeline) -> None:
    with pytest.raises(OptionError, match="list of prompts is empty"):
        pipe([])


# Runs in a process of its own, as users do: without the hook that checks annotations in tests.
WRONG_TYPES = """
import sys, numpy, kinescribe
pipe = kinescribe.load(sys.argv[1])
for prompt in (5, None, b"a boat", {"a": 1}, ["a boat", 5]):
    try:
        pipe(prompt)
    except TypeError as error:
        print(error)
try:
    pipe("a boat", noise=numpy.zeros((1, 4, 3, 3, 4)))
except TypeError as error:
    print(error)
"""


def test_a_prompt_or_noise_of_another_type_is_a_type_error_naming_it() -> None:
    command = [sys.executable, "-c", WRONG_TYPES, str(FOLDER)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    types = ("int", "NoneType", "bytes", "dict", "int", "ndarray")
    assert len(said) == len(types)
    assert all(f"not {name}" in line for name, line in zip(types, said, strict=True))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_noise_that_is_not_finite_is_refused_before_any_work(pipe: TextToVideoPipeline, value: float) -> None:
    with pytest.raises(OptionError, match="all of them finite"):
        pipe.stream("a boat", noise=torch.full((1, 4, 3, 3, 4), value))


def test_noise_of_whole_numbers_is_refused(pipe: TextToVideoPipeline) -> None:
    with pytest.raises(OptionError, match=r"torch.int64"):
        pipe("a boat", noise=torch.zeros(1, 4, 3, 3, 4, dtype=torch.int64))


def test_the_last_seed_of_all_makes_a_clip(pipe: TextToVideoPipeline) -> None:
    assert pipe("a boat", seed=2**63 - 1, steps=1).recipe["request"]["seed"] == 2**63 - 1  # type: ignore[index]
    with pytest.raises(OptionError, match="2 clips need"):
        pipe(["a boat", "two"], seed=2**63 - 1)


def test_guidance_that_is_off_is_said_with_what_is_lost(pipe: TextToVideoPipeline) -> None:
    with pytest.warns(
        KinescribeWarning, match=r"guidance=1 turns guidance off: the negative prompt has no effect"
    ):
        pipe("a boat", seed=1, steps=1, guidance=1.0, negative_prompt="the")
    with pytest.warns(KinescribeWarning, match=r"guidance=0.5 turns guidance off; above 1"):
        pipe("a boat", seed=1, steps=1, guidance=0.5)


def test_a_flat_clip_is_a_warning_and_no_error(components: Components) -> None:
    with torch.no_grad():
        components.vae.decoder.head.weight.zero_()
        components.vae.decoder.head.bias.fill_(-1)
    with pytest.warns(KinescribeWarning, match=r"almost one flat colour \(mean 0, spread 0.0 of 255\)"):
        assert not TextToVideoPipeline(components)("a boat", seed=1, steps=1).frames.any()


@pytest.mark.parametrize(
    ("prompt", "script"), [("熊猫 panda", ""), ("熊猫在吃竹子", "Chinese"), ("кот и dog", "Cyrillic")]
)
def test_a_foreign_script_is_named(prompt: str, script: str) -> None:
    assert foreign_script(prompt) == script


def test_doubtful_prompts_can_be_made_errors(pipe: TextToVideoPipeline) -> None:
    for prompt in ("a zeppelin", "кот", "of " * 20):
        with warnings.catch_warnings(), pytest.raises(PromptWarning):
            warnings.simplefilter("error", PromptWarning)
            pipe(prompt, seed=1)


def test_memory_that_runs_out_in_both_passes_makes_them_one_after_the_other(components: Components) -> None:
    plain = TextToVideoPipeline(components)("a boat", seed=1)
    forward, sizes = components.unet.forward, []

    def short(x: torch.Tensor, t: torch.Tensor, told: Conditioning) -> torch.Tensor:
        sizes.append(len(told.tokens))
        if len(told.tokens) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x, t, told)

    components.unet.forward = short  # type: ignore[method-assign]
    with pytest.warns(KinescribeWarning, match="two passes of guidance run one after the other"):
        video = TextToVideoPipeline(components)("a boat", seed=1)
    assert sizes == [2, 1, 1, 1, 1, 1, 1]
    assert np.abs(video.frames.astype(int) - plain.frames).max() <= 1


def test_memory_that_runs_out_in_decoding_makes_frames_one_by_one(components: Components) -> None:
    plain = TextToVideoPipeline(components)("a boat", seed=1)
    whole, sizes = components.vae.decode, []

    def short(latents: torch.Tensor) -> torch.Tensor:
        sizes.append(len(latents))
        if len(latents) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return whole(latents)

    components.vae.decode = short  # type: ignore[method-assign]
    with pytest.warns(KinescribeWarning, match="one frame at a time"):
        video = TextToVideoPipeline(components)("a boat", seed=1)
    assert sizes == [3, 1, 1, 1]
    assert np.abs(video.frames.astype(int) - plain.frames).max() <= 1


@pytest.mark.parametrize(
    ("part", "stage"), [("text", "reading the prompt"), ("unet", "denoising"), ("vae", "decoding")]
)
def test_memory_that_does_not_suffice_names_the_stage_and_the_next_request_is_fine(
    components: Components, part: str, stage: str
) -> None:
    network = getattr(components, part)
    name = "decode" if part == "vae" else "forward"

    def never(*_: object) -> torch.Tensor:
        raise MemoryError

    setattr(network, name, never)
    with (
        warnings.catch_warnings(),
        pytest.raises(MemoryLimitError, match=f"out of memory while {stage} .*--") as caught,
    ):
        warnings.simplefilter("ignore", KinescribeWarning)
        TextToVideoPipeline(components)("a boat", seed=1)
    assert caught.value.exit_code == 4
    delattr(network, name)
    assert len(TextToVideoPipeline(components)("a boat", seed=1).frames) == 3


def test_a_large_model_on_a_processor_tells_time_and_memory_first(
    components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinescribe.pipelines.planning.LARGE", 1)
    with pytest.warns(KinescribeWarning, match=r"about \d+ minutes and \d+ MB"):
        TextToVideoPipeline(components).stream("a boat", seed=1)
