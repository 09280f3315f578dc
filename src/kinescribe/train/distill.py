"""The distilling stage: a UNet learns to go in a few steps where its teacher goes in many, with guidance.

The teacher, a trained text-to-video model, walks from noise to a clip as it does in use: DPM-Solver++ with
classifier-free guidance of one fixed scale, which the student so takes over (LCM, Luo et al., 2310.04378; VideoLCM,
2312.09109). The student's few times cut that way into phases, and from any point of a phase one step of DDIM without
guidance shall lead to the phase's end (phased consistency models, Wang et al., 2405.18407). So what is sampled is what
was trained: DDIM over the same few times, no fresh noise.

Consistency models (Song et al., 2303.01469) ask a slow average of the student itself where the way leads to. Here the
teacher has walked it: its own landing is the target, as the clean clip that a single step would need, the way of
progressive distillation (Salimans, Ho, 2202.00512, algorithm 2). Ways are kept and serve many steps, which makes that
cheaper than asking three networks at each. Nothing is rendered: of the world only the words are taken.
"""

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from kinescribe.checkpoints.load import load_components
from kinescribe.components import Components
from kinescribe.diffusion.denoiser import Branch
from kinescribe.diffusion.noise import Noise
from kinescribe.diffusion.samplers import plan
from kinescribe.diffusion.schedule import Schedule
from kinescribe.diffusion.trajectory import Trajectory
from kinescribe.errors import DataError
from kinescribe.models.conditions import Conditioning
from kinescribe.pipelines.denoise import branches
from kinescribe.train import report, weights
from kinescribe.train.compiled import compile_blocks
from kinescribe.train.config import DistillTraining
from kinescribe.train.data import Drawing, Ring, Scribe, world_tokenizer
from kinescribe.train.denoising import Batch, Denoising, as_clips, decoded, walked
from kinescribe.train.losses import pseudo_huber
from kinescribe.train.ranks import Ranks
from kinescribe.train.vae import HELD_OUT_SEED

SAMPLER = "ddim"
"""What the student is sampled with, deterministic."""
SOLVER = "dpmpp_2m"
"""What the teacher walks with."""
VALIDATED_AT_ONCE = 64


class DistillStage:
    """Trains the UNet of `Denoising` on its teacher's ways; see `loop.Stage`."""

    def __init__(self, config: DistillTraining, ranks: Ranks) -> None:
        self.config, self.ranks, self.samples = config, ranks, config.batch
        self.teacher = _teacher(config, ranks.device)
        self.tokenizer, text = self.teacher.require_text()
        # In evaluation mode, as the teacher: dropout would only blur what is to be met exactly.
        student = Denoising(copy.deepcopy(self.teacher.unet).requires_grad_(True), text)
        if config.init_from is not None:
            # a text tower is read as well, but that of the teacher stays
            start = Denoising(student.unet, copy.deepcopy(text))
            weights.read_model(Path(config.init_from), start, self.tokenizer)
        self.model: nn.Module = student
        told = dataclasses.replace(
            self.teacher.schedule, spacing="trailing", final="clean", shift=config.shift
        )
        self.schedule = Schedule(told)
        self.path = plan(SAMPLER, self.schedule, config.steps)
        self.way = plan(SOLVER, self.schedule, config.teacher_steps)
        self.phase = config.teacher_steps // config.steps
        self._lay_out_levels()
        side = config.cache.size // self.teacher.vae.config.factor
        self.shape = (self.teacher.unet.config.out_channels, config.cache.frames, side, side)
        self.words = Words(config, ranks, self.teacher)
        self.test = self._ways(self.words.held_out(), HELD_OUT_SEED + ranks.rank)
        self.ring = Ring(config.cache, self._chunk)

    def prepare(self, step: int) -> None:
        """Let the teacher walk new ways when their time has come."""
        self.ring.reach(step)

    def losses(self, model: nn.Module, step: int, generator: Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """How far off the clean estimates are at random points of ways, as many in each phase."""
        n, per, device = self.config.batch, self.phase, generator.device
        rows = self.ring.rows(n, generator)
        between = torch.rand(n, generator=generator, device=device) < self.config.between_share
        inside = torch.randint(1, per, (n,), generator=generator, device=device)
        at = torch.arange(n, device=device) % self.config.steps * per + torch.where(between, inside, 0)
        kept = {name: self.ring[name] for name in ("states", "ids")}
        return {"loss": pseudo_huber(self._error(model, kept, rows, at)).mean()}

    def compile(self) -> None:
        """Compile both UNets, which share most of their code."""
        compile_blocks(cast(Denoising, self.model).unet)
        compile_blocks(self.teacher.unet)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, Tensor]:
        """On words of held-out combinations: "loss", also phase by phase, "own" and "clip".

        "loss" asks at states of the teacher's. "own" is the same error at those that the student itself comes to: how
        far it lands from where the teacher would lead from there. "clip" is how far clips are from the teacher's of
        the same noise; guided ways part quickly, so it stays large where both clips are good.
        """
        phases: list[list[Tensor]] = [[] for _ in range(self.config.steps)]
        own, clip, device = [], [], self.ranks.device
        for rows in torch.split(torch.arange(len(self.test["ids"]), device=device), VALIDATED_AT_ONCE):
            for phase, found in enumerate(phases):
                at = torch.full_like(rows, phase * self.phase)
                found.append(pseudo_huber(self._error(model, self.test, rows, at)))
            begin, end = (as_clips(self.test["states"][rows, place].float()) for place in (0, -1))
            made, off = self._beside_the_teacher(cast(Denoising, model), begin, self.test["ids"][rows])
            own.append(off)
            clip.append(pseudo_huber(made - end))
        means = {f"phase_{i}": torch.cat(found).mean() for i, found in enumerate(phases, 1)}
        loss = torch.stack(list(means.values())).mean()
        return {"loss": loss, **means, "own": torch.cat(own).mean(), "clip": torch.cat(clip).mean()}

    @torch.no_grad()
    def show(self, model: nn.Module, picture: Path) -> None:
        """Clips of the recipe's prompts, in the student's steps."""
        prompts = self.config.sheet_prompts
        if prompts:
            start = Noise(range(len(prompts)), self.shape, device=self.ranks.device).initial()
            ids = self.tokenizer(prompts).ids.to(self.ranks.device)
            made = self._made(cast(Denoising, model), start, ids)[-1]
            report.write_samples(decoded(self.teacher.vae, made).cpu().numpy(), picture)

    def export(self, model: nn.Module, folder: Path) -> None:
        """The teacher with the student's UNet, times and settings, as a native folder in fp16."""
        spec, steps = self.teacher.spec, self.config.steps
        defaults = dataclasses.replace(
            spec.defaults, steps=steps, guidance=1.0, sampler=SAMPLER, negative_prompt=""
        )
        note = f"distilled: made for {steps} steps of {SAMPLER} without guidance"
        spec = dataclasses.replace(spec, defaults=defaults, notes=(*spec.notes, note))
        weights.write_model(
            folder, cast(Denoising, model), self.teacher.vae, self.tokenizer, self.schedule.config, spec
        )

    def close(self) -> None:
        """End the workers."""
        self.words.scribe.close()

    def _lay_out_levels(self) -> None:
        """The teacher's times, and the signal and noise of its states, on the device; the last state is the clip."""
        grid, device = plan(SAMPLER, self.schedule, self.config.teacher_steps), self.ranks.device
        if grid.times[:: self.phase] != self.path.times:
            raise DataError(
                f"steps={self.config.steps} visits times that teacher_steps={self.config.teacher_steps} does not "
                f"({self.path.times} and {grid.times}): use numbers that divide the {self.schedule.config.train_steps}"
            )
        levels = (*grid.levels, grid.landings[-1])
        self.signal, self.noise = torch.tensor(levels, dtype=torch.float32, device=device).T
        self.times = torch.tensor(grid.times, device=device).long()
        # On the device, so that a step's levels are looked up without asking the host.
        self.schedule.signal = self.schedule.signal.to(device)
        self.schedule.noise = self.schedule.noise.to(device)

    def _error(
        self, model: nn.Module, kept: Mapping[str, Tensor], rows: Int[Tensor, " b"], at: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c f h w"]:
        """How the clean estimates at state `at` of ways differ from those that lead DDIM to the ends of the phases."""
        end = (at // self.phase + 1) * self.phase
        x, there = (as_clips(kept["states"][rows, place].float()) for place in (at, end))
        left, gain = self._gain(at, end)
        t = self.times[at]
        output = model(x, t, Batch(latents=there, ids=kept["ids"][rows].long()))
        return self.schedule.clean(output.float(), x, t) - (there - left * x) / gain

    def _gain(
        self, at: Int[Tensor, " b"], end: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b 1 1 1 1"], Float[Tensor, "b 1 1 1 1"]]:
        """How much of the state `at`, and of the clean estimate there, DDIM takes to the state `end`."""
        left = self.noise[end] / self.noise[at]
        gain = self.signal[end] - left * self.signal[at]
        return left.view(-1, 1, 1, 1, 1), gain.view(-1, 1, 1, 1, 1)

    def _made(
        self, model: Denoising, start: Float[Tensor, "b c f h w"], ids: Int[Tensor, "b n"]
    ) -> list[Float[Tensor, "b c f h w"]]:
        """Where the student's own steps lead, clips at last; its sampler asks for no noise on the way."""
        told: dict[Branch, Conditioning] = {"positive": Conditioning(tokens=model.text(ids.long()))}
        prediction = self.schedule.config.prediction
        return walked(
            model.unet, told, start, self.path, lambda _: start, prediction=prediction, guidance=1.0, sampler=SAMPLER
        )  # fmt: skip

    def _beside_the_teacher(
        self, model: Denoising, start: Float[Tensor, "b c f h w"], ids: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b c f h w"], Float[Tensor, " b"]]:
        """The student's clips, and how far off its steps are from the teacher's phases from the same states."""
        landings = self._made(model, start, ids)
        off = []
        for phase, (begin, end) in enumerate(zip([start, *landings], landings, strict=False)):
            first = phase * self.phase
            there = self._steps_of_the_teacher(begin, ids, _part(self.way, first, first + self.phase))[-1]
            ends = torch.tensor([[first], [first + self.phase]], device=start.device)
            _, gain = self._gain(*ends)
            off.append(pseudo_huber((end - there) / gain))
        return landings[-1], torch.stack(off).mean(0)

    def _chunk(self, number: int) -> dict[str, Tensor]:
        seed = np.random.SeedSequence([self.config.run.seed, self.ranks.rank, number]).generate_state(2)
        return self._ways(self.words.take(number, int(seed[0])), int(seed[1]))

    @torch.no_grad()
    def _ways(self, ids: Int[Tensor, "n tokens"], seed: int) -> dict[str, Tensor]:
        """The teacher's "states" `n k f h w c` on its ways from noise of `seed` to clips, in fp16, and the "ids"."""
        device, parts = self.ranks.device, []
        ids, generator = ids.to(device), Generator(device).manual_seed(seed)
        # Both branches of guidance then make the batch that the student's blocks are compiled for.
        for words in torch.split(ids, max(self.config.batch // 2, 1)):
            start = torch.randn((len(words), *self.shape), generator=generator, device=device)
            states = [start, *self._steps_of_the_teacher(start, words, self.way)]
            parts.append(torch.stack([rearrange(x, "n c f h w -> n f h w c").half() for x in states], 1))
        return {"states": torch.cat(parts), "ids": ids}

    def _steps_of_the_teacher(
        self, start: Float[Tensor, "n c f h w"], words: Int[Tensor, "n tokens"], way: Trajectory
    ) -> list[Float[Tensor, "n c f h w"]]:
        negative_words = self.tokenizer([self.teacher.spec.defaults.negative_prompt] * len(words)).ids
        assert self.teacher.text is not None
        positive = Conditioning(tokens=self.teacher.text(words.long()))
        negative = Conditioning(tokens=self.teacher.text(negative_words.to(start.device)))
        return walked(
            self.teacher.unet,
            branches(positive, negative),
            start,
            way,
            lambda _: start,
            prediction=self.schedule.config.prediction,
            guidance=self.config.guidance,
            sampler=SOLVER,
        )


class Words:
    """The words that ways are walked for, as ids: captions of the world, or lines of a file of prompts."""

    def __init__(self, config: DistillTraining, ranks: Ranks, teacher: Components) -> None:
        self.config, self._rank = config, ranks.rank
        tokenizer, _ = teacher.require_text()
        self._empty, self._lines = tokenizer([""]).ids, None
        self._drawing = Drawing(
            count=config.cache.chunk, captions=1, context_length=tokenizer.context_length, held_out=False
        )
        self.scribe = Scribe(self._drawing, config.run.seed, ranks.rank, config.cache.workers)
        if config.prompts_from is not None:
            lines = _lines(Path(config.prompts_from), config.validation_clips)
            self._lines = tokenizer(lines).ids.int()
        elif tokenizer.keep != world_tokenizer(tokenizer.context_length).keep:
            raise DataError(
                f"teacher={config.teacher} has other words than the world's captions: "
                "set prompts_from to a text file with a prompt on each line"
            )

    def take(self, number: int, seed: int) -> Int[Tensor, "n tokens"]:
        """Chunk `number`, a share of it left empty."""
        generator, count = Generator().manual_seed(seed), self._drawing.count
        dropped = torch.rand(count, 1, generator=generator) < self.config.condition_dropout
        if self._lines is None:
            ids = torch.from_numpy(self.scribe.take(number).ids[:, 0])
        else:
            known = len(self._lines) - self.config.validation_clips
            ids = self._lines[torch.randint(known, (count,), generator=generator)]
        return torch.where(dropped, self._empty.to(ids), ids)

    def held_out(self) -> Int[Tensor, "n tokens"]:
        """Words that are never trained on: of held-out combinations, or the last lines."""
        count = self.config.validation_clips
        if self._lines is not None:
            return self._lines[-count:]
        drawing = dataclasses.replace(self._drawing, count=count, held_out=True)
        return torch.from_numpy(Scribe(drawing, HELD_OUT_SEED, self._rank, 0).take(0).ids[:, 0])


def _part(path: Trajectory, begin: int, end: int) -> Trajectory:
    """Some steps of a path, as a path of their own."""
    part = slice(begin, end)
    return dataclasses.replace(
        path, times=path.times[part], levels=path.levels[part], landings=path.landings[part]
    )


def _teacher(config: DistillTraining, device: torch.device) -> Components:
    """The teacher in float32 on the device, for use alone."""
    teacher = load_components(config.teacher, device=device, dtype=torch.float32)
    if teacher.spec.kind != "text-to-video":
        raise DataError(
            f"teacher={config.teacher} is a model for {teacher.spec.kind}: take a text-to-video one"
        )
    for network in teacher.networks:
        network.eval().requires_grad_(False)
    return teacher


def _lines(path: Path, held_out: int) -> list[str]:
    """The prompts of a file, more than are held out."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"prompts_from={path} cannot be read ({error}): give a text file in UTF-8") from error
    if len(lines) <= held_out:
        raise DataError(
            f"prompts_from={path} has {len(lines)} prompts: give more than validation_clips={held_out}"
        )
    return lines
