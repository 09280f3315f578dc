"""The training loop that every stage shares: steps, clocks, milestones, and an exact return after any stop."""

import copy
import hashlib
import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import get_total_norm

from kinescribe.errors import DataError, NumbersError
from kinescribe.train import report, state
from kinescribe.train.config import OptimizerConfig, RunConfig
from kinescribe.train.ema import Ema
from kinescribe.train.ranks import Ranks

LOSS_MEMORY = 0.9
MOST_SKIPPED = 0.5


@runtime_checkable
class Stage(Protocol):
    """What one kind of training adds to the loop."""

    model: nn.Module
    samples: int

    def prepare(self, step: int) -> None:
        """Bring the data to where it must be at `step`; called before every step."""

    def losses(self, model: nn.Module, step: int, generator: Generator) -> dict[str, Tensor]:
        """The loss to minimise as "loss" and other terms worth a line in the log; `model` may be wrapped."""

    def compile(self) -> None:
        """Compile the heavy parts of the model in place."""

    def validate(self, model: nn.Module) -> dict[str, Tensor]:
        """Figures on data kept from training; the same ones in every process, to be averaged."""

    def show(self, model: nn.Module, picture: Path) -> None:
        """Write a sheet of what the model makes."""

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the model for use, in fp16."""


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0

    def share(self, run: RunConfig) -> float:
        """How much of the run is done: the nearer of its two limits, in [0, 1]."""
        by_step = 0.0 if run.steps is None else self.step / run.steps
        by_time = 0.0 if run.minutes is None else self.seconds / (60 * run.minutes)
        return min(max(by_step, by_time), 1.0)


def learning_rate(config: OptimizerConfig, step: int, share: float) -> float:
    """Linear warm-up over the first steps, cosine decay over the whole run to `final_share` of the peak."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps > 0 else 1.0
    decay = config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * share))
    return config.learning_rate * warm * decay


class Loop:
    """One run of one stage in this process; its folder holds the log, checkpoints, samples and the export."""

    def __init__(
        self, stage: Stage, run: RunConfig, optimizer: OptimizerConfig, ranks: Ranks, fingerprint: str
    ) -> None:
        self.stage, self.run_config, self.optimizer_config = stage, run, optimizer
        self.ranks, self.fingerprint = ranks, fingerprint
        self.folder = Path(run.folder)
        if ranks.first:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.log = report.Log(self.folder / "log.jsonl", silent=not ranks.first)
        self.ema = Ema(stage.model, optimizer.ema_decay)
        self.optimizer = torch.optim.AdamW(
            _groups(stage.model, optimizer.weight_decay), lr=0.0, betas=optimizer.betas, fused=True
        )
        torch.manual_seed(run.seed + ranks.rank)
        self.generator = Generator(ranks.device).manual_seed(run.seed * 1_000_003 + ranks.rank)
        self.progress = Progress()
        self.meter = Meter()
        self._smooth: float | None = None
        self._last_milestone = Progress()
        self._restore()
        if run.compiled:
            stage.compile()
        self.model = ranks.wrap(stage.model)

    def run(self) -> Progress:
        """Train to the end of the run (or until asked to stop) and write the last milestone."""
        self._started = time.monotonic() - self.progress.seconds
        self._ticked = copy.copy(self.progress)
        with _stop_requests() as stop:
            asked = False
            while self.progress.share(self.run_config) < 1 and not asked:
                self._step()
                ended = self.progress.step == self.run_config.steps
                if self.progress.step % self.run_config.log_steps == 0 or ended:
                    asked = self._tick(stop)
        self._milestone(final=True)
        return self.progress

    def _step(self) -> None:
        self.stage.prepare(self.progress.step)
        rate = learning_rate(self.optimizer_config, self.progress.step, self.progress.share(self.run_config))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.ranks.device.type == "cuda"):
            losses = self.stage.losses(self.model, self.progress.step, self.generator)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        norm = self._update()
        self.ema.update(self.progress.step)
        self.meter.add({**losses, "norm": norm}, valid=torch.isfinite(norm))
        self.progress.step += 1
        self.progress.samples += self.stage.samples * self.ranks.world

    def _update(self) -> Tensor:
        """Clip and apply the gradients; leave the step out, without asking the device, if they are not finite."""
        parameters = [p for p in self.stage.model.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = get_total_norm(gradients, foreach=True)
        torch.nn.utils.clip_grads_with_norm_(parameters, self.optimizer_config.clip_norm, norm, foreach=True)
        # The fused kernels read this attribute, as they do under a gradient scaler.
        self.optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _tick(self, stop: dict[str, bool]) -> bool:
        """Agree on the time, write a log line, reach a milestone if one is due; whether the run shall stop."""
        seconds, asked = self.ranks.from_first(time.monotonic() - self._started, float(stop["asked"]))
        self.progress.seconds = seconds
        figures = self.meter.drain(self.ranks)
        if figures["skipped"] > MOST_SKIPPED:
            raise NumbersError(
                f"at step {self.progress.step} the gradients of {figures['skipped']:.0%} of the steps were not finite: "
                "lower optimizer.learning_rate; the run's last checkpoint is from before"
            )
        loss, before = figures["loss"], self._ticked
        self._smooth = loss if self._smooth is None else LOSS_MEMORY * self._smooth + (1 - LOSS_MEMORY) * loss
        speed = (self.progress.samples - before.samples) / max(seconds - before.seconds, 1e-9)
        self._ticked = copy.copy(self.progress)
        self.log.write(
            "train", step=self.progress.step, seconds=seconds, samples=self.progress.samples, smooth_loss=self._smooth,
            learning_rate=self.optimizer.param_groups[0]["lr"], samples_per_second=speed, **figures,
        )  # fmt: skip
        if self._milestone_due():
            self._milestone()
        return asked > 0

    def _milestone_due(self) -> bool:
        run, last = self.run_config, self._last_milestone
        if self.progress.share(run) >= 1:  # the final one follows at once
            return False
        if run.first_milestone and last.step == 0:
            return True
        every = run.milestone_steps
        by_step = every is not None and self.progress.step // every > last.step // every
        return by_step or (
            run.milestone_minutes is not None
            and self.progress.seconds - last.seconds >= 60 * run.milestone_minutes
        )

    def _milestone(self, *, final: bool = False) -> None:
        """Weights first, being what one would miss most; then checkpoint, validation, samples and curve."""
        progress = self.progress
        self._last_milestone = copy.copy(progress)
        model, first = self.ema.module, self.ranks.first
        if first:
            self.stage.export(model, self.folder / "export")
        self._save()
        # what is done now and then, in batches of its own sizes, is not worth compiling for
        with torch.compiler.set_stance("force_eager"):
            figures = self.stage.validate(model)
        means = self.ranks.mean(
            torch.stack([value.float().reshape(()) for value in figures.values()])
        ).tolist()
        self.log.write("validation", step=progress.step, **dict(zip(figures, means, strict=True)))
        if first:
            with torch.compiler.set_stance("force_eager"):
                self.stage.show(model, self.folder / "samples.png")
            report.draw_curve(self.log.path, self.folder / "loss.png")
        export = str(self.folder / "export")
        self.log.write("milestone", step=progress.step, samples=progress.samples, final=final, export=export)

    def _save(self) -> None:
        names = {id(parameter): name for name, parameter in self.stage.model.named_parameters()}
        tensors: dict[str, Tensor] = {"random.own": self.ranks.stack(self.generator.get_state())}
        tensors["random.global"] = self.ranks.stack(_global_state(self.ranks.device))
        tensors |= {f"model.{name}": tensor for name, tensor in self.stage.model.state_dict().items()}
        tensors |= {f"ema.{name}": tensor for name, tensor in self.ema.module.state_dict().items()}
        for parameter, moments in self.optimizer.state.items():
            tensors |= {f"optimizer.{names[id(parameter)]}.{key}": value for key, value in moments.items()}
        facts = state.Facts(
            step=self.progress.step, seconds=self.progress.seconds, samples=self.progress.samples,
            world=self.ranks.world, config=self.fingerprint,
        )  # fmt: skip
        if self.ranks.first:
            state.save(self.folder / "checkpoints", facts, tensors, keep=self.run_config.keep_checkpoints)

    def _restore(self) -> None:
        """Take up the run where its newest good checkpoint left it, if there is one."""
        found = state.newest(
            self.folder / "checkpoints", lambda message: self.log.write("warning", message=message)
        )
        if found is None:
            return
        facts = found.facts
        if (facts.config, facts.world) != (self.fingerprint, self.ranks.world):
            raise DataError(
                f"{self.folder} holds a run with another configuration or number of processes ({facts.world}): "
                "use the same ones, or another run.folder"
            )
        tensors = found.tensors
        self.stage.model.load_state_dict(_below(tensors, "model."))
        self.ema.module.load_state_dict(_below(tensors, "ema."))
        for name, parameter in self.stage.model.named_parameters():
            moments = _below(tensors, f"optimizer.{name}.")
            if moments:
                self.optimizer.state[parameter] = {
                    key: value.to(parameter.device) for key, value in moments.items()
                }
        self.generator.set_state(tensors["random.own"][self.ranks.rank].clone())
        _set_global_state(self.ranks.device, tensors["random.global"][self.ranks.rank].clone())
        self.progress = Progress(facts.step, facts.samples, facts.seconds)
        self._last_milestone = copy.copy(self.progress)
        self.log.write("resume", step=facts.step, seconds=facts.seconds)


class Meter:
    """Means of figures between log lines, summed on the device so that no step waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._valid: list[Tensor] = []

    def add(self, figures: dict[str, Tensor], valid: Tensor) -> None:
        """Count one step's figures in, or only the fact that it was left out."""
        count = valid.float()
        self._valid.append(count)
        for name, figure in figures.items():
            value = torch.where(valid, figure.detach().float(), 0.0)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts[name] + count if name in self._counts else count

    def drain(self, ranks: Ranks) -> dict[str, float]:
        """The means over steps and processes since the last call, and the share of steps left out as "skipped"."""
        means = [self._sums[name] / self._counts[name].clamp(min=1) for name in self._sums]
        skipped = 1 - torch.stack(self._valid).mean()
        values = ranks.mean(torch.stack([*means, skipped])).tolist()
        figures = dict(zip([*self._sums, "skipped"], values, strict=True))
        self._sums, self._counts, self._valid = {}, {}, []
        return figures


def fingerprint(table: dict[str, Any]) -> str:
    """A short hash of what must stay the same for a run to be taken up: all of its configuration but `run`."""
    rest = {name: value for name, value in table.items() if name != "run"} | {"seed": table["run"]["seed"]}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; gains, biases and embeddings' positions of one axis do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _global_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_global_state(device: torch.device, value: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(value, device)
    else:
        torch.set_rng_state(value)


@contextmanager
def _stop_requests() -> Iterator[dict[str, bool]]:
    """While open, a termination signal or Ctrl-C only asks: the run then ends at its next log line, all written."""
    asked = {"asked": False}

    def ask(*_: object) -> None:
        asked["asked"] = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
