"""`python -m kinescribe.train.judge --out DIR --minutes 3.5`: train the judge of the world on its renders.

One process, one device. Clips are rendered on the device into a rolling cache; half of each batch is worn (blur, noise,
light) so that generated clips, which are never quite clean, are judged by what they show.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from kinescribe.errors import KinescribeError
from kinescribe.train.compiled import compile_in_place
from kinescribe.train.config import CacheConfig, OptimizerConfig, RunConfig, as_table
from kinescribe.train.data import Ring, subject_cover
from kinescribe.train.loop import Loop, fingerprint
from kinescribe.train.ranks import Ranks, join
from kinescribe.world import motions
from kinescribe.world.clip import Clips, sample_clips
from kinescribe.world.judge import SMALL, Judge, Verdict, save_judge
from kinescribe.world.judge_network import CELL, Answers, JudgeConfig, JudgeNetwork
from kinescribe.world.render import render

HELD_OUT_SEED = 0x1D6E
RENDERED_AT_ONCE = 256
PAIRS = 0.15
WHERE_WEIGHT = 2.0
ATTRIBUTES = ("subject", "colour", "scene", "time", "motion", "camera")
FOUR = ("subject", "colour", "scene", "motion")
RESERVE_SECONDS = 25.0
"""Wall time kept for the start, the last validation and the export."""


@dataclass(frozen=True, kw_only=True)
class JudgeTraining:
    """How a judge is trained: `tested` held-out clips, each shown as it is and worn, measure it."""

    run: RunConfig
    optimizer: OptimizerConfig
    cache: CacheConfig
    judge: JudgeConfig
    batch: int
    tested: int


def standard(folder: Path, *, minutes: float, seed: int = 1, compiled: bool = False) -> JudgeTraining:
    """The set-up of the shipped judge: one H200, 49,152 cached clips (39 GB), `minutes` of wall time in all."""
    return JudgeTraining(
        run=RunConfig(
            folder=str(folder), seed=seed, minutes=max(minutes - RESERVE_SECONDS / 60, 0.1), compiled=compiled,
            milestone_minutes=1.5, first_milestone=False, keep_checkpoints=1,
        ),
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=100, final_share=0.005, weight_decay=0.02, ema_decay=0.997
        ),
        cache=CacheConfig(chunk=512, slots=96, first_slots=12, renew_steps=4, workers=0),
        judge=SMALL,
        batch=256,
        tested=4000,
    )  # fmt: skip


class JudgeStage:
    """Trains `JudgeNetwork` on renders; see `loop.Stage`."""

    def __init__(self, config: JudgeTraining, ranks: Ranks) -> None:
        self.config, self.ranks, self.samples = config, ranks, config.batch
        torch.manual_seed(config.run.seed)
        self.model: nn.Module = JudgeNetwork(config.judge).to(ranks.device)
        self.ring = Ring(config.cache, self._chunk)
        clips = sample_clips(config.tested, HELD_OUT_SEED, held_out=True, pairs=0.0)
        paired = sample_clips(config.tested // 4, HELD_OUT_SEED, held_out=True, pairs=1.0)
        self.tests = {"single": clips, "pairs": paired}

    def prepare(self, step: int) -> None:
        """Render new clips when their time has come."""
        self.ring.reach(step)

    def losses(self, model: nn.Module, step: int, generator: Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """Cross entropy of every answer, and of the map of where subjects are."""
        rows = self.ring.rows(self.config.batch, generator)
        frames = worn(as_input(self.ring["frames"][rows]), generator)
        labels = {name: self.ring[name][rows] for name in (*ATTRIBUTES, "count")}
        return losses(model(frames), labels, self.ring["where"][rows].float() / 255)

    def compile(self) -> None:
        """Compile the picture encoder, which is nearly all of the work."""
        compile_in_place(self.model.encoder)  # type: ignore[arg-type]

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, Tensor]:
        """Accuracy on a quarter of the held-out clips."""
        few = self.tests["single"][: max(self.config.tested // 4, 1)]
        figures = accuracy(Judge(model), few, self.config.cache, self.ranks.device)  # type: ignore[arg-type]
        return {name: torch.tensor(value, device=self.ranks.device) for name, value in figures.items()}

    def show(self, model: nn.Module, picture: Path) -> None:
        """A judge makes no pictures."""

    def export(self, model: nn.Module, folder: Path) -> None:
        """The network in fp16 with its sizes."""
        save_judge(folder, model, {})  # type: ignore[arg-type]

    def report(self, judge: Judge) -> dict[str, dict[str, float]]:
        """Accuracy on all held-out clips: as they are, under a resting camera, worn, and with two subjects."""
        single, device, cache = self.tests["single"], self.ranks.device, self.config.cache
        generator = Generator(device).manual_seed(HELD_OUT_SEED)
        return {
            "single": accuracy(judge, single, cache, device),
            "resting_camera": accuracy(judge, single[single.camera == 0], cache, device),
            "worn": accuracy(judge, single, cache, device, wear=generator),
            "pairs": accuracy(judge, self.tests["pairs"], cache, device),
        }

    def _chunk(self, number: int) -> dict[str, Tensor]:
        cache, device = self.config.cache, self.ranks.device
        seed = self.config.run.seed * 1_000_003 + number
        clips = sample_clips(cache.chunk, seed, pairs=PAIRS)
        parts = [(frames, _masks(part, cache, device)) for part, frames in rendered(clips, cache, device)]
        frames, where = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
        return {"frames": frames, "where": where, **labels_of(clips, device)}


def rendered(
    clips: Clips, cache: CacheConfig, device: torch.device
) -> Iterator[tuple[Clips, UInt8[Tensor, "n f h w 3"]]]:
    """The clips a part at a time, each with its frames."""
    for begin in range(0, len(clips), RENDERED_AT_ONCE):
        part = clips[begin : begin + RENDERED_AT_ONCE]
        yield part, render(part, size=cache.size, frames=cache.frames, device=device)


def _masks(clips: Clips, cache: CacheConfig, device: torch.device) -> UInt8[Tensor, "n f g g"]:
    """How much of each cell subjects cover, 0 to 255."""
    cover = subject_cover(clips, cache, device, side=cache.size // CELL)
    return (cover * 255).round().to(torch.uint8)


def labels_of(clips: Clips, device: torch.device | str) -> dict[str, Int[Tensor, "n ..."]]:
    """What the judge should answer; `subject` and `colour` for the whole frame, its left and its right half.

    A clip with one subject asks for the whole frame (the halves are -1: not asked), one with two only for the
    halves, since no one can see which was named first.
    """
    columns = {name: torch.from_numpy(column).to(device) for name, column in clips.labels().items()}
    paired = columns["second_subject"] >= 0
    middle = torch.full((len(clips), 1), 0.5, device=device)
    first_left = (
        motions.pose(columns, columns["subject"], 0, middle).x
        < motions.pose(columns, columns["subject"], 1, middle).x
    )[:, 0]
    labels = {name: columns[name] for name in ("scene", "time", "motion", "camera")} | {
        "count": paired.long()
    }
    for name in ("subject", "colour"):
        first, second = columns[name], columns["second_" + name]
        left, right = torch.where(first_left, first, second), torch.where(first_left, second, first)
        rows = [torch.where(paired, -1, first), torch.where(paired, left, -1), torch.where(paired, right, -1)]
        labels[name] = torch.stack(rows, 1)
    return labels


def losses(answers: Answers, labels: dict[str, Tensor], where: Float[Tensor, "b f g g"]) -> dict[str, Tensor]:
    """The terms by name, and under "loss" their sum to minimise."""
    terms = {}
    for name in ("scene", "time", "motion", "camera", "count"):
        terms[name] = F.cross_entropy(getattr(answers, name), labels[name])
    for name in ("subject", "colour"):
        logits = rearrange(getattr(answers, name), "b r k -> (b r) k")
        terms[name] = F.cross_entropy(logits, labels[name].flatten(), ignore_index=-1)
    terms["where"] = F.binary_cross_entropy_with_logits(answers.where, where)
    total = sum(terms.values(), torch.zeros((), device=where.device)) + (WHERE_WEIGHT - 1) * terms["where"]
    return {"loss": total, **terms}


def as_input(frames: UInt8[Tensor, "b f h w 3"]) -> Float[Tensor, "b f 3 h w"]:
    """Bytes to numbers in [-1, 1], channels before pixels."""
    return rearrange(frames, "b f h w c -> b f c h w").float() / 127.5 - 1


def worn(
    frames: Float[Tensor, "b f 3 h w"], generator: Generator, *, share: float = 0.6
) -> Float[Tensor, "b f 3 h w"]:
    """A `share` of the clips with the faults of generated ones: soft, a little noisy, blotched, the light slightly off.

    Colours move by a few hundredths at most, so that they keep their names.
    """
    b, f, _, h, w = frames.shape

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=frames.device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=frames.device)

    clips = rearrange(frames, "b f c h w -> b (f c) h w")
    for factor, most in ((2, 1.0), (4, 0.45)):
        coarse = F.interpolate(F.avg_pool2d(clips, factor), size=(h, w), mode="bilinear", align_corners=False)
        clips = clips.lerp(coarse, most * draw(b, 1, 1, 1) * (draw(b, 1, 1, 1) < 0.6))
    blotches = F.interpolate(
        normal(b, f * 3, h // 8, w // 8), size=(h, w), mode="bilinear", align_corners=False
    )
    clips = clips + 0.05 * draw(b, 1, 1, 1).square() * blotches
    clips = clips + 0.05 * draw(b, 1, 1, 1).square() * normal(*clips.shape)
    out = rearrange(clips, "b (f c) h w -> b f c h w", f=f)
    gain = 1 + 0.03 * normal(b, 1, 1, 1, 1) + 0.012 * normal(b, 1, 3, 1, 1)
    out = out * gain + 0.02 * normal(b, 1, 1, 1, 1)
    chosen: Bool[Tensor, "b 1 1 1 1"] = draw(b, 1, 1, 1, 1) < share
    return torch.where(chosen, out.clamp(-1, 1), frames)


@torch.no_grad()
def accuracy(
    judge: Judge, clips: Clips, cache: CacheConfig, device: torch.device, *, wear: Generator | None = None
) -> dict[str, float]:
    """The share of right answers by name; "four" are subject, colour, scene and motion together, "all" all six.

    With two subjects, subject and colour are right if both halves are.
    """
    right: dict[str, list[Tensor]] = {}
    for part, frames in rendered(clips, cache, device):
        if wear is not None:
            soft = rearrange(worn(as_input(frames), wear, share=1.0), "b f c h w -> b f h w c")
            frames = ((soft + 1) * 127.5).round().to(torch.uint8)
        for name, good in right_answers(judge(frames), part).items():
            right.setdefault(name, []).append(good)
    every = {name: torch.cat(parts) for name, parts in right.items()}
    every["four"] = torch.stack([every[name] for name in FOUR]).all(0)
    every["all"] = torch.stack([every[name] for name in ATTRIBUTES]).all(0)
    return {name: float(good.float().mean()) for name, good in every.items()}


def right_answers(verdict: Verdict, clips: Clips) -> dict[str, Bool[Tensor, " n"]]:
    """Whether each answer is right, clip by clip."""
    labels = labels_of(clips, "cpu")
    paired = labels["count"] > 0
    right = {name: getattr(verdict, name) == labels[name] for name in ("scene", "time", "motion", "camera")}
    right["count"] = verdict.count == labels["count"] + 1
    for name in ("subject", "colour"):
        whole, left, right_half = labels[name].unbind(1)
        both = (getattr(verdict.left, name) == left) & (getattr(verdict.right, name) == right_half)
        right[name] = torch.where(paired, both, getattr(verdict, name) == whole)
    return right


def train_judge(config: JudgeTraining, ranks: Ranks) -> dict[str, dict[str, float]]:
    """Train, export into the run's folder, and measure what was exported."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    folder = Path(config.run.folder)
    stage = JudgeStage(config, ranks)
    table = as_table(config)
    loop = Loop(stage, config.run, config.optimizer, ranks, fingerprint(table))
    progress = loop.run()
    judge = Judge.load(folder / "export", device=ranks.device)
    figures = stage.report(judge)
    facts: dict[str, object] = {
        "accuracy": {kind: {name: round(value, 5) for name, value in row.items()} for kind, row in figures.items()},
        "tested_clips": config.tested,
        "training": {
            "steps": progress.step, "samples": progress.samples, "seconds": round(progress.seconds, 1),
            "seed": config.run.seed,
        },
    }  # fmt: skip
    save_judge(folder, judge.network, facts)
    return figures


def table_of(figures: dict[str, dict[str, float]]) -> str:
    """The figures as a Markdown table in per cent, a row a kind of test."""
    names = list(next(iter(figures.values())))
    lines = ["| held-out clips | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for kind, row in figures.items():
        lines.append(f"| {kind} | " + " | ".join(f"{100 * row[name]:.2f}" for name in names) + " |")
    return "\n".join(lines)


def main() -> int:
    """Train as the arguments say; the exit code of the error met, or 0."""
    parser = argparse.ArgumentParser(
        prog="python -m kinescribe.train.judge", description="Train the judge on renders."
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; the judge is written there"
    )
    parser.add_argument("--minutes", type=float, default=3.5, help="wall time in all (default 3.5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--compiled", action="store_true", help="compile the encoder: worth it in runs of ten minutes"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--batch", type=int, help="clips a step (default 256)")
    parser.add_argument(
        "--slots", type=int, help="chunks of 512 clips kept on the device, 0.4 GB each (default 96)"
    )
    parser.add_argument("--tested", type=int, help="held-out clips to measure with (default 4000)")
    arguments = parser.parse_args()
    config = standard(
        arguments.out, minutes=arguments.minutes, seed=arguments.seed, compiled=arguments.compiled
    )
    if arguments.slots is not None:
        first = min(arguments.slots, config.cache.first_slots)
        config = dataclasses.replace(
            config, cache=dataclasses.replace(config.cache, slots=arguments.slots, first_slots=first)
        )
    changes = {
        name: getattr(arguments, name) for name in ("batch", "tested") if getattr(arguments, name) is not None
    }
    try:
        figures = train_judge(dataclasses.replace(config, **changes), join(arguments.device))
    except KinescribeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(table_of(figures) + "\n" + json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
