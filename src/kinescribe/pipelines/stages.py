"""The stages every task is made of: text to tokens, latents to pixels, and the check that numbers are numbers."""

import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kinescribe.components import Components
from kinescribe.diffusion.denoiser import Branch, Predict
from kinescribe.errors import KinescribeWarning, NumbersError, PromptWarning
from kinescribe.models.tokenizer import Tokenizer, Tokens
from kinescribe.models.vae import AutoencoderKL
from kinescribe.pipelines.memory import is_out_of_memory, release

FLAT_SPREAD = 2.0
"""Standard deviation of pixel levels, of 255, under which a clip counts as one flat colour."""

LATIN_END = 0x250
"""The first code point after the Latin letters of European languages."""

TOGETHER_PIXELS = 2**20
"""Frames go through the autoencoder together up to so many pixels: enough to fill a device, little memory."""


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


def in_parts(predict: Predict) -> Predict:
    """``predict``, that asks the two branches of guidance one after the other from when memory runs out on."""
    apart: list[bool] = []

    def answer(x: Tensor, t: float, branch: Branch) -> Tensor:
        if branch != "both":
            return predict(x, t, branch)
        if not apart:
            try:
                return predict(x, t, branch)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            release()  # here, where the error no longer holds what was computed
            apart.append(True)
            say("memory ran out: the two passes of guidance now run one after the other, which is slower")
        negative, positive = x.chunk(2)
        return torch.cat([predict(negative, t, "negative"), predict(positive, t, "positive")])

    return answer


def decode(components: Components, latents: Float[Tensor, "b c f y x"]) -> list[UInt8[np.ndarray, "f h w 3"]]:
    """Frames of every clip from scaled latents, a few pictures at a time.

    Numbers that are not finite are decoded once more in float32; raises ``NumbersError`` if that fails too.
    """
    return [
        np.concatenate([to_uint8(images) for images in decode_clip(components.vae, clip)]) for clip in latents
    ]


def decode_clip(vae: AutoencoderKL, clip: Float[Tensor, "c f y x"]) -> Iterator[Float[Tensor, "n 3 h w"]]:
    """The pictures of one clip in order, a few at a time, in the autoencoder's dtype and about [-1, 1].

    One at a time from the moment that memory runs out.
    """
    pictures = rearrange(clip, "c f h w -> f c h w").float() * (1.0 / vae.config.scale)
    pixels = pictures.shape[-1] * pictures.shape[-2] * vae.config.factor**2
    return few_at_a_time(
        lambda part: finite(vae, vae.decode, pictures[part], "decoding"), len(pictures), pixels, "decoding"
    )


def few_at_a_time(
    work: Callable[[slice], Tensor], count: int, pixels: int, doing: str
) -> Iterator[Float[Tensor, "n ..."]]:
    """``work`` on ``count`` frames of ``pixels`` each, in slices of a few; one by one once memory ran out."""
    done, together = 0, max(1, TOGETHER_PIXELS // pixels)
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


def finite(vae: AutoencoderKL, call: Callable[[Tensor], Tensor], x: Tensor, doing: str) -> Tensor:
    """``call``, a method of ``vae``, of ``x`` in its dtype; once more in float32 if the result is not finite.

    Raises ``NumbersError`` if it is not finite then either.
    """
    dtype = vae.quantise.weight.dtype
    result = call(x.to(dtype))
    if bool(torch.isfinite(result).all()):
        return result
    if dtype != torch.float32:
        say(
            f"{doing} in {str(dtype).removeprefix('torch.')} overflowed: {doing.removesuffix('ing')}ed again in float32"
        )
        vae.float()
        result = call(x.float())
        vae.to(dtype)
        if bool(torch.isfinite(result).all()):
            return result
    raise NumbersError(
        f"the autoencoder gave numbers that are not finite while {doing}, in float32 too: "
        "check the weights (kinescribe models check)"
    )


def to_uint8(images: Float[Tensor, "n 3 h w"]) -> UInt8[np.ndarray, "n h w 3"]:
    """[-1, 1] to [0, 255], clamped and cut off (not rounded), as the original does."""
    levels = ((images.float() * 0.5 + 0.5).clamp(0, 1) * 255).to(torch.uint8)
    return rearrange(levels, "n c h w -> n h w c").cpu().numpy()


def require_finite(latents: Tensor, *, step: int, total: int, unet: nn.Module, again: "Replay") -> None:
    """Raise ``NumbersError`` naming step, dtype and module if ``latents`` hold anything that is not a number."""
    if bool(torch.isfinite(latents.sum())) or bool(torch.isfinite(latents).all()):
        return
    dtype = str(next(unet.parameters()).dtype).removeprefix("torch.")
    module = first_bad_module(unet, again)
    advice = (
        "use --dtype float32 or bfloat16"
        if dtype == "float16"
        else "check the weights (kinescribe models check)"
    )
    raise NumbersError(
        f"numbers that are not finite at step {step} of {total} (UNet in {dtype}, first in {module}): {advice}"
    )


class Replay:
    """The last call of a network, kept so that a failure can be traced to a module."""

    def __init__(self, call: nn.Module) -> None:
        self.call = call
        self.args: tuple[object, ...] = ()

    def __call__(self, *args: object) -> Tensor:
        """Call through, and remember the arguments."""
        self.args = args
        return self.call(*args)


def first_bad_module(unet: nn.Module, replay: Replay) -> str:
    """Name of the innermost module whose output is the first to be not finite; runs the network once more."""
    found: list[str] = []

    def watch(name: str) -> object:
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            if not found and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                found.append(name)

        return hook

    leaves = [(name, module) for name, module in unet.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        if replay.args:
            replay(*replay.args)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "the sampler"


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
