"""LoRAs as typed, `PATH` or `PATH:SCALE`, and those that a recipe names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kinescribe.errors import OptionError
from kinescribe.media.recipe import AppliedLora, Recipe


@dataclass(frozen=True, kw_only=True)
class LoraChoice:
    """A file or folder, and how strong its LoRA is to be; None is as strong as trained, or as in the recipe."""

    path: str
    scale: float | None

    @property
    def strength(self) -> float:
        """The scale, where nothing else is known."""
        return 1.0 if self.scale is None else self.scale

    def require_here(self) -> None:
        """Raise WeightsError for what is no LoRA, before the model is read."""
        from kinescribe.checkpoints.lora_file import open_lora

        open_lora(Path(self.path).expanduser())

    def sha256(self) -> str:
        """What tells the LoRA from others."""
        from kinescribe.checkpoints.lora_file import open_lora, sum_of

        return sum_of(open_lora(Path(self.path).expanduser()))


def parse_lora(text: str) -> LoraChoice:
    """`PATH:SCALE` where a number follows the last colon and no file is called so; else `PATH`."""
    path, colon, number = text.rpartition(":")
    if not colon or not path or Path(text).expanduser().exists():
        return LoraChoice(path=text, scale=None)
    try:
        scale = float(number)
    except ValueError:
        return LoraChoice(path=text, scale=None)
    if not abs(scale) < float("inf"):
        raise OptionError(f"--lora {text!r}: the scale must be a finite number, such as 0.8")
    return LoraChoice(path=path, scale=scale)


def remade_loras(
    first: Recipe, last: Recipe | None, given: Sequence[LoraChoice]
) -> tuple[tuple[LoraChoice, ...], tuple[LoraChoice, ...]]:
    """The LoRAs of both stages of a recipe, found among those given; what is left over is added to the first.

    Raises OptionError where one is missing or is another than the recipe's: the frames would not be the clip's.
    """
    sums = {choice.sha256(): choice for choice in given} if first.loras or (last and last.loras) else {}
    stages = [_found(recipe.loras or (), sums) if recipe else () for recipe in (first, last)]
    used = {choice.path for stage in stages for choice in stage}
    more = tuple(choice for choice in given if choice.path not in used)
    return (*stages[0], *more), stages[1]


def _found(wanted: Sequence[AppliedLora], sums: dict[str, LoraChoice]) -> tuple[LoraChoice, ...]:
    found = []
    for lora in wanted:
        choice = sums.get(lora.sha256)
        if choice is None:
            others = ", ".join(other.path for other in sums.values())
            said = f"{others} is another one" if others else "it does not hold that"
            raise OptionError(
                f"the clip was made with the LoRA {lora.name!r} (sha256 {lora.sha256[:16]}), and {said}: "
                f"add --lora FILE"
            )
        found.append(choice if choice.scale is not None else replace(choice, scale=lora.scale))
    return tuple(found)
