"""`python -m kinescribe.evaluate.animate --model DIR_OR_NAME --count 300 --out DIR`: examine Papercut Animate.

Stills of held-out combinations are brought to life as their captions ask. Measured is whether a clip begins with its
still, and what the judge sees in it, beside true renders. A second row asks for motion of subjects that were drawn at
rest, which no clip of the training world begins with.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from kinescribe.components import Components
from kinescribe.evaluate import command, motion, report, scores
from kinescribe.evaluate.conditioned import Stills, animated, latents_of
from kinescribe.evaluate.generate import Making
from kinescribe.evaluate.papercut import Examiner, write_sheet
from kinescribe.evaluate.prompts import Asked, clips_of, held_out_prompts
from kinescribe.evaluate.scores import Judged
from kinescribe.evaluate.sharpness import likeness
from kinescribe.pipelines.stages import decode
from kinescribe.world.clip import MOTIONS, Clips
from kinescribe.world.render import render_stills

MODEL = "papercut-animate"
GRID_GUIDANCE = (1.0, 1.5, 2.0, 3.0, 4.0)
GRID_STEPS = (8, 16, 25)
GRID_COUNT = 100


def stills_of(clips: Clips, size: int, device: torch.device) -> Stills:
    """What each clip begins with."""
    return render_stills(clips, 0.0, size=size, device=device).cpu().numpy()


def at_rest(asked: Sequence[Asked]) -> Clips:
    """The clips behind the prompts with nothing moving but the camera: their subjects stand where rest suits them."""
    still = MOTIONS.index("still")
    return Clips.of(dataclasses.replace(item.clip, motion=still) for item in asked if item.clip is not None)


def examine(examiner: Examiner, count: int, out: Path) -> dict[str, Any]:
    """The whole examination; writes its sheets into `out` and returns its figures."""
    asked = held_out_prompts(count, examiner.seed)
    components, making = examiner.components, examiner.making
    begin = time.monotonic()
    stills = stills_of(clips_of(asked), making.width, components.device)
    made = judged(examiner, asked, stills, making)
    seconds = time.monotonic() - begin
    truth = examiner.rendered(asked)
    resting_stills = stills_of(at_rest(asked), making.width, components.device)
    resting = judged(examiner, asked, resting_stills, making)
    for name, part, pictures in (("made", made, stills), ("resting", resting, resting_stills)):
        write_sheet(out / f"{name}.png", _with_stills(part, pictures))
    moved = {"made": made, "true": truth, "resting": resting}
    return {
        "model": {"source": components.source, "hash": components.model_hash},
        "making": dataclasses.asdict(making) | {"seed": examiner.seed, "count": count},
        "clips_per_second": count / seconds,
        "made": report.single(made),
        "resting": report.single(resting),
        "truth": report.single(truth),
        "first_frame": begun(components, made.clips, stills),
        "resting_first_frame": begun(components, resting.clips, resting_stills),
        "movement": {name: motion.summary(motion.movement(part.clips)) for name, part in moved.items()},
    }


def judged(examiner: Examiner, asked: Sequence[Asked], stills: Stills, making: Making) -> Judged:
    """Clips of the stills as the prompts ask, and what the judge sees in them."""
    prompts, tell = [item.prompt for item in asked], command.progress(len(asked))
    clips = animated(examiner.components, stills, prompts, making, seed=examiner.seed, tell=tell)
    return examiner.judged(asked, clips)


def begun(components: Components, clips: UInt8[np.ndarray, "n f h w 3"], stills: Stills) -> dict[str, float]:
    """How near first frames come to their stills, and the rebuilt stills, which no first frame can better; in dB."""
    with torch.inference_mode():
        rebuilt = decode(components, latents_of(components, stills)[None])[0]
    first = [likeness(*pair) for pair in _pairs(clips[:, 0], stills)]
    limit = [likeness(*pair) for pair in _pairs(rebuilt, stills)]
    return {"psnr": float(np.mean(first)), "worst": min(first), "rebuilt": float(np.mean(limit))}


def try_grid(examiner: Examiner, count: int) -> list[dict[str, float]]:
    """A row of shares for each guidance and number of steps, on the same stills and noise."""
    asked, rows = held_out_prompts(count, examiner.seed), []
    stills = stills_of(clips_of(asked), examiner.making.width, examiner.components.device)
    for steps in GRID_STEPS:
        for guidance in GRID_GUIDANCE:
            making = dataclasses.replace(examiner.making, steps=steps, guidance=guidance)
            made = judged(examiner, asked, stills, making)
            found = {name: share.value for name, share in scores.shares(made.right).items()}
            rows.append({"steps": float(steps), "guidance": guidance, **found})
    return rows


def as_markdown(figures: Mapping[str, Any]) -> str:
    """The page: how clips begin, shares with intervals, movement."""
    making, first, resting = figures["making"], figures["first_frame"], figures["resting_first_frame"]
    rows = {"stills as clips begin": "made", "stills of subjects at rest": "resting", "true renders": "truth"}
    lines = [
        f"# {figures['model']['source']} ({figures['model']['hash']})", "",
        f"{making['count']} held-out stills, {making['sampler']}, {making['steps']} steps, guidance "
        f"{making['guidance']:g}, seed {making['seed']}; {figures['clips_per_second']:.1f} clips a second, "
        "made and judged. "
        "Per cent right, 95 % interval in brackets.", "",
        f"First frame to still: {first['psnr']:.1f} dB (worst {first['worst']:.1f}; at rest {resting['psnr']:.1f}); "
        f"the autoencoder alone gives {first['rebuilt']:.1f} dB.", "",
        *report.share_rows({title: figures[key]["shares"] for title, key in rows.items()}), "",
        *report.heading(("movement", *figures["movement"]["made"])),
    ]  # fmt: skip
    for kind, row in figures["movement"].items():
        lines.append(f"| {kind} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |")
    return "\n".join(lines) + "\n"


def _pairs(one: np.ndarray, other: np.ndarray) -> list[tuple[Tensor, Tensor]]:
    return [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in zip(one, other, strict=True)]


def _with_stills(part: Judged, stills: Stills) -> Judged:
    """The clips with their stills in front, for a sheet."""
    return dataclasses.replace(part, clips=np.concatenate([stills[:, None], part.clips], 1))


def main() -> int:
    """Examine as the arguments say; the exit code of the error met, or 0."""
    parser = command.parser("animate", "Examine Papercut Animate.", model=MODEL, count=300, batch=50)
    parser.add_argument(
        "--grid", action="store_true", help="compare guidance and steps instead, on up to 100 stills"
    )
    arguments = parser.parse_args()

    def work() -> None:
        components = command.loaded(arguments, arguments.model)
        making = command.making_of(arguments, components)
        examiner = Examiner(components, command.judge_of(arguments), making, arguments.seed)
        if arguments.grid:
            rows = try_grid(examiner, min(arguments.count, GRID_COUNT))
            command.write(arguments.out, "grid", rows, report.grid_table(rows))
        else:
            figures = examine(examiner, arguments.count, arguments.out)
            command.write(arguments.out, "report", figures, as_markdown(figures))

    return command.exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
