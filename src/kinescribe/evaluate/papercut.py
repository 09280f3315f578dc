"""`python -m kinescribe.evaluate.papercut --model DIR_OR_NAME --count 500 --out DIR`: examine Papercut.

Clips of held-out combinations are generated from their captions and judged from their pixels; the same clips rendered
truly and judged alike show what the judge itself can see.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from kinescribe.components import Components
from kinescribe.evaluate import command, motion, report, scores
from kinescribe.evaluate.generate import Making, generate
from kinescribe.evaluate.prompts import PLAIN_PROMPTS, Asked, clips_of, held_out_prompts
from kinescribe.evaluate.scores import Judged
from kinescribe.evaluate.sheets import write_judged
from kinescribe.perf.presets import SPEEDS
from kinescribe.world.judge import Judge
from kinescribe.world.render import render

MODEL = "papercut"
SHOWN = 40
PAIR_SHARE = 5
"""One two-subject prompt for so many single ones."""
GRID_GUIDANCE = (1.5, 2.0, 3.0, 4.0, 6.0)
GRID_STEPS = (8, 16, 25, 50)
GRID_COUNT = 128
RENDERED_AT_ONCE = 128


@dataclass(frozen=True)
class Examiner:
    """A model, a judge, and how clips are made."""

    components: Components
    judge: Judge
    making: Making
    seed: int

    def judged(self, asked: Sequence[Asked], clips: UInt8[np.ndarray, "n f h w 3"]) -> Judged:
        """The judge's view of clips."""
        verdict = self.judge(torch.from_numpy(clips))
        return Judged(asked, clips, verdict, scores.answers_right(verdict, asked))

    def made(self, asked: Sequence[Asked], making: Making | None = None) -> Judged:
        """Clips of the prompts, generated and judged."""
        prompts = [item.prompt for item in asked]

        tell = command.progress(len(prompts))
        clips = generate(self.components, prompts, making or self.making, seed=self.seed, tell=tell)
        return self.judged(asked, clips)

    def rendered(self, asked: Sequence[Asked]) -> Judged:
        """The true clips behind the prompts, judged."""
        clips, device = clips_of(asked), self.components.device
        parts = [
            render(clips[begin : begin + RENDERED_AT_ONCE], device=device).cpu().numpy()
            for begin in range(0, len(clips), RENDERED_AT_ONCE)
        ]
        return self.judged(asked, np.concatenate(parts))


def examine(examiner: Examiner, count: int, out: Path) -> dict[str, Any]:
    """The whole examination; writes its sheets into `out` and returns its figures."""
    begin = time.monotonic()
    asked = held_out_prompts(count, examiner.seed)
    made = examiner.made(asked)
    seconds = time.monotonic() - begin
    truth = examiner.rendered(asked)
    paired = held_out_prompts(max(count // PAIR_SHARE, 1), examiner.seed + 1, pairs=True)
    pairs, true_pairs = examiner.made(paired), examiner.rendered(paired)
    plain = examiner.made(PLAIN_PROMPTS)
    resting = _where(made, [item.clip is not None and item.clip.camera == 0 for item in asked])
    movement = {"made": made, "true": truth}
    for name, part in (("held_out", made), ("pairs", pairs), ("plain", plain), ("truth", truth)):
        write_sheet(out / f"{name}.png", part)
    return {
        "model": {"source": examiner.components.source, "hash": examiner.components.model_hash},
        "making": dataclasses.asdict(examiner.making) | {"seed": examiner.seed, "count": count},
        "clips_per_second": count / seconds,
        "held_out": report.single(made),
        "resting_camera": report.single(resting),
        "truth": report.single(truth),
        "pairs": report.shares(scores.pair_shares(pairs.verdict, paired)),
        "true_pairs": report.shares(scores.pair_shares(true_pairs.verdict, paired)),
        "plain": report.single(plain) | {"everything_asked": report.everything(plain)},
        "movement": {name: motion.summary(motion.movement(part.clips)) for name, part in movement.items()},
    }


def try_grid(examiner: Examiner, count: int = GRID_COUNT) -> list[dict[str, float]]:
    """A row of shares for each guidance and number of steps, on the same prompts and noise."""
    asked, rows = held_out_prompts(count, examiner.seed), []
    for steps in GRID_STEPS:
        for guidance in GRID_GUIDANCE:
            making = dataclasses.replace(examiner.making, steps=steps, guidance=guidance)
            made = examiner.made(asked, making)
            found = {name: share.value for name, share in scores.shares(made.right).items()}
            rows.append({"steps": float(steps), "guidance": guidance, **found})
    return rows


def write_sheet(path: Path, part: Judged) -> None:
    """The first clips with prompts and marks."""
    right = {name: row[:SHOWN] for name, row in part.right.items()}
    write_judged(path, part.clips[:SHOWN], [item.prompt for item in part.asked[:SHOWN]], right)


def _where(part: Judged, chosen: Sequence[bool]) -> Judged:
    rows = np.flatnonzero(chosen)
    right = {name: row[rows] for name, row in part.right.items()}
    asked = [part.asked[i] for i in rows.tolist()]
    return Judged(asked, part.clips[rows], part.verdict.take(torch.from_numpy(rows)), right)


def main() -> int:
    """Examine as the arguments say; the exit code of the error met, or 0."""
    parser = command.parser("papercut", "Examine Papercut.", model=MODEL, count=500, batch=50)
    parser.add_argument(
        "--grid", action="store_true", help="compare guidance and steps instead, on up to 128 prompts"
    )
    parser.add_argument(
        "--preset",
        choices=[name for name in SPEEDS if name],
        help="a preset of speed (default: exactly)",
    )
    arguments = parser.parse_args()

    def work() -> None:
        components = command.loaded(arguments, arguments.model)
        making = dataclasses.replace(command.making_of(arguments, components), preset=arguments.preset)
        examiner = Examiner(components, command.judge_of(arguments), making, arguments.seed)
        if arguments.grid:
            rows = try_grid(examiner, min(arguments.count, GRID_COUNT))
            command.write(arguments.out, "grid", rows, report.grid_table(rows))
        else:
            figures = examine(examiner, arguments.count, arguments.out)
            command.write(arguments.out, "report", figures, report.as_markdown(figures))

    return command.exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
