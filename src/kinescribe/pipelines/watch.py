"""The watch over a denoising loop: numbers that are not finite end it, with the step and the module they came from."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinescribe.errors import NumbersError
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.ops.parts import Parts

Call = tuple[Tensor, Tensor, Conditioning]
Run = Callable[[Tensor, Tensor, Conditioning], Tensor]


@dataclass(frozen=True)
class _Answer:
    """Whether the latents after a step are finite: under way from the device, and there once ``arrived``."""

    step: int
    finite: Tensor
    arrived: torch.cuda.Event | None
    calls: list[Call]


class Watched:
    """A UNet called through ``run``, whose latents are looked at after each step.

    The answer for a step is asked for when the next one is on its way, so that a GPU never waits for the host.
    """

    def __init__(self, unet: UNet, run: Run, total: int) -> None:
        self._unet, self._run, self._total = unet, run, total
        self._calls: list[Call] = []
        self._answer: _Answer | None = None

    def __call__(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """Call through, and remember what was asked in this step."""
        self._calls.append((x, t, conditioning))
        return self._run(x, t, conditioning)

    def after(self, step: int, latents: Tensor) -> None:
        """Look at the ``latents`` after a step (from 1); raises ``NumbersError`` for the step before it."""
        calls, self._calls = self._calls, []
        self.settle()
        finite, arrived = torch.isfinite(latents).all(), None
        if latents.device.type == "cuda":
            finite = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(finite, non_blocking=True)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(torch.cuda.current_stream(latents.device))
        self._answer = _Answer(step, finite, arrived, calls)

    def settle(self) -> None:
        """Wait for the last answer; raises ``NumbersError`` if the latents were not finite."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if answer.arrived is not None:
            answer.arrived.synchronize()
        if not bool(answer.finite):
            self._fail(answer)

    def _fail(self, answer: _Answer) -> None:
        dtype = str(next(self._unet.parameters()).dtype).removeprefix("torch.")
        advice = (
            "use --dtype float32 or bfloat16"
            if dtype == "float16"
            else "check the weights (kinescribe models check)"
        )
        raise NumbersError(
            f"numbers that are not finite at step {answer.step} of {self._total} "
            f"(UNet in {dtype}, first in {first_bad_module(self._unet, answer.calls)}): {advice}"
        )


def first_bad_module(unet: UNet, calls: list[Call]) -> str:
    """Name of the innermost module called that is the first to hold or to give a number that is not finite.

    Runs the network once more. Operations that take a module's weights without calling it are found by the module
    around them.
    """
    found: list[str] = []

    def watch(name: str) -> object:
        def hook(module: nn.Module, _args: object, output: object) -> None:
            result = output[0] if isinstance(output, tuple) else output
            # a bias may be added elsewhere than where its module is called
            seen = [*module.parameters(recurse=False), *([result] if isinstance(result, Tensor) else [])]
            seen += result.held() if isinstance(result, Parts) else ()
            if not found and not all(bool(torch.isfinite(numbers).all()) for numbers in seen):
                found.append(name)

        return hook

    inside = [(name, module) for name, module in unet.named_modules() if name]
    handles = [module.register_forward_hook(watch(name)) for name, module in inside]
    try:
        for call in calls:
            unet(*call)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "the sampler"
