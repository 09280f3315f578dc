"""From what a network answers to the clean estimate a sampler asks for."""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from kinescribe.diffusion.guidance import EVERYWHERE, Interval, guide
from kinescribe.diffusion.schedule import Level, Prediction, Schedule
from kinescribe.errors import OptionError

Branch = Literal["both", "negative", "positive"]

Predict = Callable[[Tensor, float, Branch], Tensor]
"""``predict(x, t, branch)``: the network's raw answer, same shape as ``x``; ``t`` is one training step for
all of ``x`` and may be fractional. ``branch`` says which condition belongs to ``x``: "positive" (the prompt),
"negative" (the negative prompt), or "both": the answer holds the batch twice, negative half first. The callee
casts ``x`` to the network's dtype; the answer may come back in that dtype."""

Denoise = Callable[[Tensor, Level, float], Tensor]
"""``denoise(x, level, t)``: the estimate of the clean clip, dtype and shape of ``x``."""


def clean_from(
    output: Float[Tensor, "b c f h w"], x: Float[Tensor, "b c f h w"], level: Level, prediction: Prediction
) -> Float[Tensor, "b c f h w"]:
    """The clean clip that a network's answer stands for.

    Raises ``OptionError`` for a noise prediction where no signal is left: it cannot say what the clip was.
    """
    if prediction == "clean":
        return output
    if prediction == "velocity":
        return level.signal * x - level.noise * output
    if level.signal == 0:
        raise OptionError(
            "prediction=noise at a level without signal has no clean estimate: "
            "use a model with velocity prediction, or a spacing that does not start at the last training step"
        )
    return (x - level.noise * output) / level.signal


def denoiser(
    predict: Predict,
    prediction: Prediction,
    *,
    guidance: float = 1.0,
    rescale: float = 0.0,
    batched: bool = True,
    guided: Interval = EVERYWHERE,
) -> Denoise:
    """The sampler's view of a network, with classifier-free guidance around it.

    ``guidance`` of 1 or less asks for the prompt's branch alone; above, both branches are asked, in one
    doubled batch (``batched``) or one after the other (less memory, same numbers up to rounding).
    ``rescale`` in [0, 1] pulls the guided answer back to the spread of the prompt's own, see
    ``guidance.guide``. Outside of ``guided`` the prompt's branch is asked alone.
    """

    def answer(x: Tensor, level: Level, t: float) -> Tensor:
        if guidance <= 1.0 or not guided.holds(level):
            return predict(x, t, "positive").to(x.dtype)
        if batched:
            negative, positive = predict(x, t, "both").to(x.dtype).chunk(2)
        else:
            negative = predict(x, t, "negative").to(x.dtype)
            positive = predict(x, t, "positive").to(x.dtype)
        return guide(negative, positive, guidance=guidance, rescale=rescale)

    def denoise(x: Tensor, level: Level, t: float) -> Tensor:
        return clean_from(answer(x, level, t), x, level, prediction)

    return denoise


def at_trained_levels(denoise: Denoise, schedule: Schedule) -> Denoise:
    """``denoise`` told the level of the training step it is asked at, whatever lies between two steps in x.

    So the reference of the second stage computes: its solver moves between interpolated levels, its clean
    estimate takes the tables at the rounded time.
    """

    def estimate(x: Tensor, _: Level, t: float) -> Tensor:
        return denoise(x, schedule.level(round(t)), t)

    return estimate
