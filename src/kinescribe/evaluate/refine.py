"""`python -m kinescribe.evaluate.refine --model DIR_OR_NAME --count 300 --out DIR`: examine Papercut Refine.

Held-out clips are drawn at the small and at the large size. The small ones, as they are drawn and as Papercut's own
autoencoder rebuilds them, are enlarged and refined; measured against the large ones are likeness and sharpness of
edges, beside plain bicubic enlargement, and what the judge sees before and after. Clips that Papercut generates have
no true ones: of them sharpness and the judge's answers are told.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from kinescribe.evaluate import command, report, scores
from kinescribe.evaluate.conditioned import Frames, Refiner, latents_of, refinement_of
from kinescribe.evaluate.generate import Making, generate
from kinescribe.evaluate.prompts import Asked, clips_of, held_out_prompts
from kinescribe.evaluate.sharpness import edge_sharpness, edges, likeness
from kinescribe.evaluate.sheets import write_judged
from kinescribe.media.fit import fit_frames
from kinescribe.pipelines.stages import decode
from kinescribe.world.judge import Judge
from kinescribe.world.render import render

MODEL, SMALL_MODEL = "papercut-refine", "papercut"
SHOWN = 5
GRID_COUNT = 48
GRID_STRENGTHS = (0.01, 0.015, 0.02, 0.03)
GRID_STEPS = (1, 2, 4)
Large = UInt8[np.ndarray, "n f h w 3"]
Right = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """Small clips of one kind, and the true large ones where there are any."""

    kind: str
    clips: Frames
    true: Large | None


@dataclass
class Found:
    """What is measured of one kind of clips, a number for each, and the judge's answers."""

    numbers: dict[str, list[float]] = field(default_factory=dict)
    before: list[Right] = field(default_factory=list)
    after: list[Right] = field(default_factory=list)
    shown: list[np.ndarray] = field(default_factory=list)

    def add(self, **numbers: float) -> None:
        """Note the numbers of one clip."""
        for name, number in numbers.items():
            self.numbers.setdefault(name, []).append(number)

    def table(self) -> dict[str, Any]:
        """Means and shares; sharpness as the ratio of means to that of bicubic enlargement."""
        means = {name: float(np.mean(values)) for name, values in self.numbers.items()}
        ratios = {
            name.replace("sharpness", "ratio"): mean / means["bicubic_sharpness"]
            for name, mean in means.items()
            if name.endswith("sharpness")
        }
        judged = {"before": _shares(self.before), "after": _shares(self.after)}
        return {"means": means, "ratios": ratios, "judged": judged}


def examine(refiner: Refiner, judge: Judge, count: int, out: Path) -> dict[str, Any]:
    """The whole examination; writes its sheets into `out` and returns its figures."""
    asked = held_out_prompts(count, refiner.seed)
    kinds = ("drawn", "rebuilt", "generated")
    found = {kind: Found() for kind in kinds}
    tell = command.progress(count)
    for begin in range(0, count, refiner.making.batch):
        part = asked[begin : begin + refiner.making.batch]
        for case in _cases(refiner, part, begin):
            _measure(found[case.kind], refiner, judge, part, case, begin)
        tell(begin + len(part))
    for kind in kinds:
        rows = [pair for clip in found[kind].shown[:SHOWN] for pair in clip]
        titles = [
            f"{what} {item.prompt}" for item in asked[: len(rows) // 2] for what in ("bicubic:", "refined:")
        ]
        write_judged(out / f"{kind}.png", np.stack(rows), titles, {}, side=256)
    return {
        "model": {"source": refiner.components.source, "hash": refiner.components.model_hash},
        "making": dataclasses.asdict(refiner.making)
        | {"strength": refiner.strength, "seed": refiner.seed, "count": count},
        **{kind: found[kind].table() for kind in kinds},
    }


def _cases(refiner: Refiner, asked: Sequence[Asked], begin: int) -> Iterator[Case]:
    """The small clips of some prompts, kind by kind."""
    making, small = refiner.making, refiner.small
    clips, device = clips_of(asked), refiner.components.device
    true = render(clips, size=making.width, frames=making.frames, device=device).cpu().numpy()
    drawn = render(clips, size=making.width // 2, frames=making.frames, device=device).cpu().numpy()
    yield Case("drawn", drawn, true)
    with torch.inference_mode():
        latents = torch.stack([latents_of(small, clip) for clip in drawn])
        yield Case("rebuilt", np.stack(decode(small, latents)), true)
    smaller = dataclasses.replace(Making.of(small.spec, batch=making.batch), frames=making.frames)
    smaller = dataclasses.replace(smaller, width=making.width // 2, height=making.height // 2)
    prompts = [item.prompt for item in asked]
    made = generate(small, prompts, smaller, seed=refiner.seed + begin, tell=_silent)
    yield Case("generated", made, None)


def _measure(
    found: Found,
    refiner: Refiner,
    judge: Judge,
    asked: Sequence[Asked],
    case: Case,
    begin: int,
) -> None:
    """Refine some small clips and note what came of it; without true ones edges are those of the enlarged clip."""
    side, device = refiner.making.width, refiner.components.device
    clips, true = case.clips, case.true
    enlarged = np.stack([fit_frames(clip, side, side, "crop") for clip in clips])
    refined = refiner(enlarged, [item.prompt for item in asked], begin)
    found.before.append(scores.answers_right(judge(torch.from_numpy(clips)), asked))
    found.after.append(scores.answers_right(judge(torch.from_numpy(refined)), asked))
    for i, clip in enumerate(clips):
        bicubic, ours = (
            torch.from_numpy(cubic(clip, side)).to(device),
            torch.from_numpy(refined[i]).to(device),
        )
        other = bicubic if true is None else torch.from_numpy(true[i]).to(device)
        where = edges(other)
        found.add(
            bicubic_sharpness=edge_sharpness(bicubic, where), refined_sharpness=edge_sharpness(ours, where)
        )
        if true is not None:
            found.add(
                bicubic_psnr=likeness(bicubic, other),
                refined_psnr=likeness(ours, other),
                true_sharpness=edge_sharpness(other, where),
                autoencoder_psnr=likeness(torch.from_numpy(_rebuilt(refiner, true[i])).to(device), other),
            )
        if len(found.shown) < SHOWN:
            found.shown.append(np.stack([bicubic.cpu().numpy(), refined[i]]))


def _rebuilt(refiner: Refiner, clip: UInt8[np.ndarray, "f y x 3"]) -> UInt8[np.ndarray, "f y x 3"]:
    """A large clip through the refining model's autoencoder alone, which no refinement can better."""
    with torch.inference_mode():
        return decode(refiner.components, latents_of(refiner.components, clip)[None])[0]


def cubic(clip: UInt8[np.ndarray, "f y x 3"], side: int) -> UInt8[np.ndarray, "f side side 3"]:
    """A clip enlarged by PIL's bicubic filter."""
    from PIL import Image

    return np.stack(
        [np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC)) for frame in clip]
    )


def try_grid(refiner: Refiner, count: int) -> list[dict[str, float]]:
    """Likeness and sharpness of rebuilt clips for each strength and number of steps, on the same noise."""
    asked = held_out_prompts(count, refiner.seed)
    rows = []
    clips, true = next(
        (case.clips, case.true) for case in _cases(refiner, asked, 0) if case.kind == "rebuilt"
    )
    assert true is not None
    side, device = refiner.making.width, refiner.components.device
    enlarged = np.stack([fit_frames(clip, side, side, "crop") for clip in clips])
    large = [torch.from_numpy(clip).to(device) for clip in true]
    where = [edges(clip) for clip in large]
    plain = _sharp([torch.from_numpy(cubic(clip, side)).to(device) for clip in clips], where)
    for strength in GRID_STRENGTHS:
        for steps in GRID_STEPS:
            making = dataclasses.replace(refiner.making, steps=steps)
            one = dataclasses.replace(refiner, making=making, strength=strength)
            made = [torch.from_numpy(clip).to(device) for clip in _all(one, enlarged, asked)]
            near = np.mean([likeness(*pair) for pair in zip(made, large, strict=True)])
            ratio = _sharp(made, where) / plain
            rows.append({"strength": strength, "steps": float(steps), "psnr": float(near), "ratio": ratio})
    return rows


def _sharp(clips: Sequence[Tensor], where: Sequence[Tensor]) -> float:
    return float(np.mean([edge_sharpness(*pair) for pair in zip(clips, where, strict=True)]))


def _all(refiner: Refiner, enlarged: Frames, asked: Sequence[Asked]) -> Frames:
    size = refiner.making.batch
    prompts = [item.prompt for item in asked]
    parts = [
        refiner(enlarged[begin : begin + size], prompts[begin : begin + size], begin)
        for begin in range(0, len(enlarged), size)
    ]
    return np.concatenate(parts)


def as_markdown(figures: Mapping[str, Any]) -> str:
    """The page: likeness and sharpness, then what the judge sees before and after."""
    making = figures["making"]
    lines = [
        f"# {figures['model']['source']} ({figures['model']['hash']})", "",
        f"{making['count']} held-out clips at {making['width']} x {making['height']}, {making['sampler']}, "
        f"{making['steps']} steps, strength {making['strength']:g}, guidance {making['guidance']:g}, seed "
        f"{making['seed']}. PSNR in dB to the clip drawn large; sharpness of edges over that of bicubic enlargement.",
        "",
        *report.heading(("clips", "bicubic, dB", "refined, dB", "autoencoder alone, dB", "refined, sharpness",
                         "true, sharpness")),
    ]  # fmt: skip
    for kind in ("drawn", "rebuilt", "generated"):
        means, ratios = figures[kind]["means"], figures[kind]["ratios"]
        names = ("bicubic_psnr", "refined_psnr", "autoencoder_psnr")
        cells = [f"{means[name]:.2f}" if name in means else "-" for name in names]
        cells += [
            f"{ratios[name]:.3f}" if name in ratios else "-" for name in ("refined_ratio", "true_ratio")
        ]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    rows = {
        f"{kind}, {when}": figures[kind]["judged"][when]
        for kind in ("drawn", "rebuilt", "generated")
        for when in ("before", "after")
    }
    return "\n".join([*lines, "", *report.share_rows(rows)]) + "\n"


def grid_table(rows: Sequence[Mapping[str, float]]) -> str:
    """The grid as a table."""
    lines = report.heading(("strength", "steps", "PSNR, dB", "sharpness"))
    for row in rows:
        lines.append(f"| {row['strength']:g} | {row['steps']:.0f} | {row['psnr']:.2f} | {row['ratio']:.3f} |")
    return "\n".join(lines) + "\n"


def _shares(parts: Sequence[Right]) -> dict[str, Any]:
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return report.shares(scores.shares(whole))


def _silent(_done: int) -> None:
    """Hear nothing."""


def main() -> int:
    """Examine as the arguments say; the exit code of the error met, or 0."""
    parser = command.parser("refine", "Examine Papercut Refine.", model=MODEL, count=300, batch=20)
    parser.add_argument(
        "--small", default=SMALL_MODEL, help=f"the model of small clips (default {SMALL_MODEL})"
    )
    parser.add_argument("--strength", type=float, help="default: the model's")
    parser.add_argument(
        "--grid", action="store_true", help="compare strengths and steps instead, on up to 48 clips"
    )
    arguments = parser.parse_args()

    def work() -> None:
        components = command.loaded(arguments, arguments.model)
        making = command.making_of(arguments, components)
        own = (refinement_of(components).noise_level + 1) / components.schedule.train_steps
        small = command.loaded(arguments, arguments.small)
        strength = own if arguments.strength is None else arguments.strength
        refiner = Refiner(components, small, making, strength, arguments.seed)
        if arguments.grid:
            rows = try_grid(refiner, min(arguments.count, GRID_COUNT))
            command.write(arguments.out, "grid", rows, grid_table(rows))
        else:
            figures = examine(refiner, command.judge_of(arguments), arguments.count, arguments.out)
            command.write(arguments.out, "report", figures, as_markdown(figures))

    return command.exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
