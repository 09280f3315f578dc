"""The stages every task is made of: text to tokens, latents to pixels, and the check that numbers are numbers."""

import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from kinescribe.components import Components, Placement
from kinescribe.diffusion.denoiser import Branch, Predict
from kinescribe.errors import KinescribeWarning, NumbersError, PromptWarning
from kinescribe.models.tokenizer import Tokenizer, Tokens
from kinescribe.models.vae import AutoencoderKL
from kinescribe.ops.pinned import main_memory
from kinescribe.ops.slices import at_most, pixels_at_once
from kinescribe.pipelines import heap
from kinescribe.pipelines.memory import is_out_of_memory, release, stage

FLAT_SPREAD = 2.0
"""Standard deviation of pixel levels, of 255, under which a clip counts as one flat colour."""

LATIN_END = 0x250
"""The first code point after the Latin letters of European languages."""


@contextmanager
def at_work(components: Components, name: str) -> Iterator[None]:
    """A stage of that name (see ``memory.stage``), its networks in place and its portions as the plan has them.

    Not to be held across a ``yield``.
    """
    placement = components.placement
    try:
        with stage(name):
            if placement is None:
                yield
                return
            placement.enter(name)
            with at_most(pixels=placement.pixels):
                yield
    finally:
        if components.device.type == "cpu":
            heap.give_back()


def encode_text(
    components: Components, prompts: Sequence[str], *, appended: str = ""
) -> Float[Tensor, "b n d"]:
    """What the text tower makes of each prompt with ``appended`` behind it, in the tower's dtype.

    Warns, one line each, of words cut off and of words the vocabulary lacks; ``appended`` may be cut in silence.
    """
    tokenizer, text = components.require_text()
    tokens = tokenised(tokenizer, prompts, components.spec.name)
    ids = tokenizer([prompt + appended for prompt in prompts]).ids if appended else tokens.ids
    device = next(text.parameters()).device
    return text(ids.to(device))


def tokenised(tokenizer: Tokenizer, prompts: Sequence[str], model: str) -> Tokens:
    """Ids of each prompt for a model of that name; warns, one line each, of what it will not see as written."""
    tokens = tokenizer(list(prompts))
    for prompt, dropped, unknown in zip(prompts, tokens.dropped, tokens.unknown, strict=True):
        _warn_of_text(model, tokenizer.context_length, prompt, dropped, unknown)
    return tokens


def _warn_of_text(model: str, limit: int, prompt: str, dropped: list[str], unknown: list[str]) -> None:
    if dropped:
        say(
            f"the prompt is longer than {limit} tokens; not seen: {' '.join(dropped)!r}. Put the main words first",
            PromptWarning,
        )
    script = foreign_script(prompt)
    if script:
        say(
            f"the prompt is mostly in {script} script, not in Latin letters; the model learned English: "
            "translate it for a better clip",
            PromptWarning,
        )
    elif unknown:
        say(
            f"{model} does not know {', '.join(map(repr, unknown))} and leaves them out; "
            "a full model understands any English: --model DIR_OR_NAME (kinescribe models list)",
            PromptWarning,
        )


def foreign_script(text: str) -> str:
    """The commonest script of a text whose letters are mostly not Latin, as Chinese or Cyrillic; else empty."""
    letters = [ch for ch in text if ch.isalpha()]
    others = [unicodedata.name(ch, "UNKNOWN").split()[0] for ch in letters if ord(ch) >= LATIN_END]
    if len(others) * 2 <= len(letters):
        return ""
    commonest = Counter(others).most_common(1)[0][0]
    return "Chinese" if commonest == "CJK" else commonest.capitalize()


def in_parts(predict: Predict, placement: Placement | None = None) -> Predict:
    """``predict`` in the portions of a plan: both branches of guidance at once or one after the other, and slices.

    Where memory runs out all the same, one rung down from then on, once; without a plan the branches go apart.
    """
    merged = [placement is None or placement.merged]

    def ask(x: Tensor, t: float, branch: Branch) -> Tensor:
        if branch == "both" and not merged[0]:
            return torch.cat([ask(x, t, "negative"), ask(x, t, "positive")])
        if placement is None:
            return predict(x, t, branch)
        placement.enter("denoising")
        with at_most(placement.rows):
            return predict(x, t, branch)

    def answer(x: Tensor, t: float, branch: Branch) -> Tensor:
        try:
            return ask(x, t, branch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            why = error.with_traceback(None)
        release()  # here, where the error no longer holds what was computed
        lower = _lower(placement, merged, branch)
        if lower is None:
            raise why
        say(f"memory ran out while denoising: from here on {lower}, which is slower")
        return ask(x, t, branch)

    return answer


def _lower(placement: Placement | None, merged: list[bool], branch: Branch) -> str | None:
    """How to go on after memory ran out, in words; None where there is no way."""
    if placement is not None:
        lower = placement.one_rung_down()
        merged[0] = placement.merged
        return lower
    if branch != "both" or not merged[0]:
        return None
    merged[0] = False
    return "the two passes of guidance run one after the other"


def decode(components: Components, latents: Float[Tensor, "b c f y x"]) -> list[UInt8[np.ndarray, "f h w 3"]]:
    """Frames of every clip from scaled latents, a few pictures at a time; those that come all at once from a GPU stay
    in the pinned memory that they came to.

    Numbers that are not finite are decoded once more in float32; raises ``NumbersError`` if that fails too.
    """
    clips = [[part.numpy() for part in decode_clip(components, clip, to_uint8)] for clip in latents]
    return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in clips]


def as_it_is(x: Tensor) -> Tensor:
    """``x``."""
    return x


def decode_clip(
    components: Components, clip: Float[Tensor, "c f y x"], become: Callable[[Tensor], Tensor] = as_it_is
) -> Iterator[Shaped[Tensor, "n ..."]]:
    """What the pictures of one clip ``become``, in order, a few at a time; ``n 3 h w``, in the autoencoder's dtype and
    about [-1, 1], before.

    One at a time from the moment that memory runs out.
    """
    vae = components.vae
    pictures = rearrange(clip, "c f h w -> f c h w").float() * (1.0 / vae.config.scale)
    pixels = pictures.shape[-1] * pictures.shape[-2] * vae.config.factor**2
    return few_at_a_time(
        lambda part: finite(
            vae, components.decode, pictures[part], "decoding", again=vae.decode, become=become
        ),
        len(pictures),
        pixels,
        "decoding",
    )


def few_at_a_time(
    work: Callable[[slice], Tensor], count: int, pixels: int, doing: str
) -> Iterator[Float[Tensor, "n ..."]]:
    """``work`` on ``count`` frames of ``pixels`` each, in slices of a few; one by one once memory ran out."""
    done, together = 0, max(1, pixels_at_once() // pixels)
    while done < count:
        part = slice(done, min(done + together, count))
        try:
            result = work(part)
        except (MemoryError, RuntimeError) as error:
            if part.stop - part.start == 1 or not is_out_of_memory(error):
                raise
            together = 1
        else:
            done = part.stop
            yield result
            continue
        release()  # here, where the error no longer holds what was computed
        say(f"memory ran out while {doing}: going on with one frame at a time, which is slower")


def finite(
    vae: AutoencoderKL,
    call: Callable[[Tensor], Tensor],
    x: Tensor,
    doing: str,
    *,
    again: Callable[[Tensor], Tensor] | None = None,
    become: Callable[[Tensor], Tensor] = as_it_is,
) -> Tensor:
    """``call``, which asks ``vae``, of ``x`` in its dtype; ``again``, or it, in float32 if the result is not finite.

    What the result is to ``become`` is begun before a GPU is asked whether it is. Raises ``NumbersError`` if it is not
    finite then either.
    """
    dtype = vae.quantise.weight.dtype
    result = call(x.to(dtype))
    sound, made = torch.isfinite(result).all(), become(result)
    if bool(sound):
        return made
    if dtype != torch.float32:
        say(
            f"{doing} in {str(dtype).removeprefix('torch.')} overflowed: {doing.removesuffix('ing')}ed again in float32"
        )
        vae.float()
        result = (again or call)(x.float())
        vae.to(dtype)
        sound, made = torch.isfinite(result).all(), become(result)
        if bool(sound):
            return made
    raise NumbersError(
        f"the autoencoder gave numbers that are not finite while {doing}, in float32 too: "
        "check the weights (kinescribe models check)"
    )


def to_uint8(images: Float[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n h w 3"]:
    """[-1, 1] to [0, 255], clamped and cut off (not rounded), as the original does; in main memory.

    From a GPU on their way there, to pinned memory: they have arrived when it has been waited for.
    """
    levels = ((images.float() * 0.5 + 0.5).clamp(0, 1) * 255).to(torch.uint8)
    levels = rearrange(levels, "n c h w -> n h w c").contiguous()
    if levels.device.type != "cuda":
        return levels.cpu()
    return main_memory(levels.numel()).view(levels.shape).copy_(levels, non_blocking=True)


def warn_of_flatness(frames: UInt8[np.ndarray, "f h w 3"]) -> None:
    """Say so if a clip is one flat colour, black for instance: possible, but seldom what was wanted."""
    spread = float(frames[:, ::4, ::4].std())
    if spread < FLAT_SPREAD:
        level = float(frames[:, ::4, ::4].mean())
        say(
            f"the clip is almost one flat colour (mean {level:.0f}, spread {spread:.1f} of 255): "
            "if that is not wanted, try another seed, more steps, or the model's own guidance"
        )


def say(message: str, category: type[KinescribeWarning] = KinescribeWarning) -> None:
    """One line for the user, who can act upon it."""
    warnings.warn(message, category, stacklevel=3)
