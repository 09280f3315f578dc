"""Papercut on a processor, ours beside diffusers' UNet, autoencoder and loop with the same weights, taking turns.

    python benchmarks/cpu_pair.py [--runs 5] [--steps N] [--out benchmarks/results/NAME.json]

A clip at the model's own settings, from a prompt (theirs from its embeddings) to uint8 frames. Both are measured in
float32 and in bfloat16; each counts with the format in which it is faster. First both networks are compared in float32:
the run stops if they do not agree. Theirs are filled through the table of names that our export uses; the export itself
refuses Papercut, whose vocabulary is compact and whose first transformer has one head where their class has eight.

Every side has a process of its own: ours with what our command sets for threads and heap, theirs as Python comes, and
once more with our settings, so that it is plain what these do. The first clip of a process is the one that a command
makes: it is a figure of its own. On a machine with other guests the least seconds say more than the median.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import kinescribe
from kinescribe.__main__ import THREADS
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.source import Config, part
from kinescribe.models.conditions import Conditioning
from kinescribe.perf.demand import Work
from kinescribe.perf.floor import clip_flops, matrix_speed
from kinescribe.perf.machine import machine
from kinescribe.perf.measure import Marks, walked
from kinescribe.perf.outline import loaded
from kinescribe.pipelines import heap
from peers_diffusers import make_vae, unet_options

PROMPT = "a red balloon rising over the sea at sunset"
CPU = torch.device("cpu")
AGREEMENT = 1e-4
"""Greatest difference between the networks in float32, as a share of the greatest number."""
AS_OURS = " with our settings"
SIDES = (
    "kinescribe float32", "kinescribe auto", "diffusers float32", "diffusers bfloat16",
    f"diffusers bfloat16{AS_OURS}",
)  # fmt: skip

Clip = Callable[[int], tuple[tuple[float, ...], np.ndarray]]
"""Seed in; seconds to the end of each step and of the frames, and the frames, out."""
Ask = Callable[[int], list[float]]
"""Seed in; those seconds out."""


def main() -> None:
    """Compare, measure in turns, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, help="the model's own unless given")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--frames", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.steps, options.frames)
        return
    pipe = papercut("float32")
    steps = options.steps or pipe.spec.defaults.steps
    agreement = agreed(pipe)
    result = machine(CPU, "diffusers") | {"model": "papercut", "steps": steps, "agreement": agreement}
    result |= measured(steps, options.runs) | floor(pipe, steps)
    print(told(result))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def papercut(dtype: str) -> Any:
    """Our pipeline."""
    return kinescribe.load("papercut", task="text-to-video", device="cpu", dtype=dtype)


@contextmanager
def at_work(side: str, steps: int, frames: Path) -> Iterator[Ask]:
    """A side in a process of its own, which is asked for clips and leaves the frames of the first in a file."""
    environment = {name: value for name, value in os.environ.items() if name not in THREADS}
    if has_our_settings(side):
        environment |= THREADS
    command = [sys.executable, __file__, "--side", side, "--steps", str(steps), "--frames", str(frames)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin and process.stdout
        asked, answers = process.stdin, process.stdout

        answers.readline()  # it is ready: no other process starts while one is timed

        def ask(seed: int) -> list[float]:
            print(seed, file=asked, flush=True)
            answer = answers.readline()
            if not answer:
                raise SystemExit(f"the process of {side} ended")
            return [float(seconds) for seconds in json.loads(answer)]

        yield ask
        asked.close()


def has_our_settings(side: str) -> bool:
    """Whether threads and heap of a side's process are set as our command sets them."""
    return side.startswith("kinescribe") or side.endswith(AS_OURS)


def serve(side: str, steps: int, frames: Path) -> None:
    """In the process of a side: for every seed that comes in a clip, and its seconds out."""
    if not has_our_settings(side):  # but theirs are filled from a pipeline of ours, which would set the heap
        heap.keep_freed = lambda: None
    who, dtype = side.removesuffix(AS_OURS).split()
    if who == "kinescribe":
        clip = ours(papercut(dtype), steps)
    else:
        clip = theirs(papercut("float32"), steps, getattr(torch, dtype))
    print(flush=True)
    for line in sys.stdin:
        intervals, made = clip(int(line))
        if not frames.exists():
            np.save(frames, made)
        print(json.dumps(intervals), flush=True)


def measured(steps: int, runs: int) -> dict[str, Any]:
    """A first clip of each, then ``runs`` of each in turns; their medians and the better formats."""
    walks: dict[str, list[list[float]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        asks = {side: stack.enter_context(at_work(side, steps, folder / f"{side}.npy")) for side in SIDES}
        for run in range(runs + 1):
            for side, ask in asks.items():
                walks[side].append(ask(run))
                print(f"run {run} of {runs}, {side}: {sum(walks[side][-1]):.2f} s", file=sys.stderr)
        made = [np.load(folder / f"{who} float32.npy").astype(int) for who in ("kinescribe", "diffusers")]
    sides = {side: figures(of_one) for side, of_one in walks.items()}
    better = {who: fastest(sides, who, "seconds_per_clip") for who in ("kinescribe", "diffusers")}
    return {
        "sides": sides,
        "better": better,
        "faster": ratio(sides, "seconds_per_clip"),
        "faster_at_best": ratio(sides, "least_seconds"),
        "faster_first": ratio(sides, "first_clip_seconds"),
        "mean_level_difference": float(np.abs(made[0] - made[1]).mean()),
    }


def fastest(sides: dict[str, Any], who: str, figure: str) -> str:
    """Of the sides of one program the one with the least of a figure."""
    return min((side for side in sides if side.startswith(who)), key=lambda side: float(sides[side][figure]))


def ratio(sides: dict[str, Any], figure: str) -> float:
    """Theirs by ours, each at its fastest."""
    ours, theirs = (sides[fastest(sides, who, figure)][figure] for who in ("kinescribe", "diffusers"))
    return float(theirs / ours)


def figures(walks: list[list[float]]) -> dict[str, Any]:
    """Of one side: seconds of each clip, and the medians; the first step, which reads the prompt, is left out."""
    first, *rest = walks
    clips, steps = [sum(walk) for walk in rest], [s for walk in rest for s in walk[1:-1]]
    return {
        "first_clip_seconds": sum(first),
        "clip_seconds": clips,
        "seconds_per_clip": median(clips),
        "least_seconds": min(clips),
        "ms_per_step": 1000 * median(steps),
        "step_ms_spread": [1000 * min(steps), 1000 * max(steps)],
        "ms_after_steps": 1000 * median(walk[-1] for walk in rest),
    }


def ours(pipe: Any, steps: int) -> Clip:
    """Our pipeline."""

    def clip(seed: int) -> tuple[tuple[float, ...], np.ndarray]:
        walk = walked(pipe.stream(PROMPT, steps=steps, noise=noise(pipe, seed), seed=seed), CPU)
        return walk.intervals, walk.last.frames

    return clip


def theirs(pipe: Any, steps: int, dtype: torch.dtype) -> Clip:
    """Their pipeline with our weights."""
    from diffusers import DPMSolverMultistepScheduler, TextToVideoSDPipeline

    scheduler = DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )  # fmt: skip
    unet, vae = (network.to(dtype) for network in networks(pipe))
    pipeline = TextToVideoSDPipeline(
        unet=unet, vae=vae, scheduler=scheduler, text_encoder=None, tokenizer=None
    )
    pipeline.set_progress_bar_config(disable=True)
    defaults = pipe.spec.defaults
    negative, positive = (tokens.to(dtype) for tokens in prompts(pipe))

    def clip(seed: int) -> tuple[tuple[float, ...], np.ndarray]:
        marks = Marks(CPU)
        marks.mark()
        frames = pipeline(
            prompt_embeds=positive, negative_prompt_embeds=negative, num_frames=defaults.frames,
            height=defaults.height, width=defaults.width, num_inference_steps=steps,
            guidance_scale=defaults.guidance, latents=noise(pipe, seed).to(dtype),
            callback=lambda *_: marks.mark(),
        ).frames[0]  # fmt: skip
        levels = (np.asarray(frames) * 255).astype(np.uint8)
        marks.mark()
        return marks.intervals(), levels

    return clip


def networks(pipe: Any) -> tuple[nn.Module, nn.Module]:
    """Their UNet and autoencoder with the weights of ours, in float32."""
    from diffusers import UNet3DConditionModel
    from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

    config = pipe.components.unet.config
    with torch.device("meta"):
        unet = UNet3DConditionModel(**unet_options(config))
        unet.transformer_in = TransformerTemporalModel(
            num_attention_heads=config.stem_heads, attention_head_dim=config.head_dim, in_channels=config.width,
            num_layers=1, norm_num_groups=config.groups,
        )  # fmt: skip
    return filled(unet, pipe.components.unet), filled(
        make_vae(pipe.components.vae.config), pipe.components.vae
    )


def filled(network: nn.Module, source: Any) -> nn.Module:
    """Their network with copies of the tensors of ours, under their names."""
    config: Config = source.config
    keymap = part(config, layout="diffusers", files=(), wanted="", aliases=Aliases()).keymap
    state = source.state_dict()
    network.load_state_dict(
        {name: x.clone() for name, x in keymap.to_foreign(state.__getitem__)}, assign=True
    )
    return network.requires_grad_(False).eval()


def agreed(pipe: Any) -> dict[str, float]:
    """How far their networks are from ours in float32; ends the program if that is more than rounding."""
    unet, vae = networks(pipe)
    x, (_, tokens), components = noise(pipe, 0), prompts(pipe), pipe.components
    with torch.inference_mode():
        gaps = {
            "unet": gap(
                components.unet(x, torch.tensor([500.0]), Conditioning(tokens=tokens)),
                unet(x, torch.tensor(500), encoder_hidden_states=tokens).sample,
            ),
            "autoencoder": gap(components.vae.decode(x[:, :, 0]), vae.decode(x[:, :, 0]).sample),
        }
    if max(gaps.values()) > AGREEMENT:
        raise SystemExit(f"the networks do not agree, so nothing is measured: {gaps}")
    return gaps


def gap(ours: Tensor, theirs: Tensor) -> float:
    """Greatest difference as a share of the greatest number."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def prompts(pipe: Any) -> tuple[Tensor, Tensor]:
    """What the text tower makes of the negative prompt and of the prompt."""
    tokenizer, text = pipe.components.require_text()
    with torch.inference_mode():
        both = text(tokenizer([pipe.spec.defaults.negative_prompt, PROMPT]).ids).float()
    return both[:1].clone(), both[1:].clone()


def noise(pipe: Any, seed: int) -> Tensor:
    """What both begin with, ``(1, c, f, h, w)``."""
    defaults, factor = pipe.spec.defaults, pipe.components.vae.config.factor
    shape = (1, 4, defaults.frames, defaults.height // factor, defaults.width // factor)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def floor(pipe: Any, steps: int) -> dict[str, Any]:
    """The clip's operations, and the speed of a matrix product in either format."""
    size = {name: getattr(pipe.spec.defaults, name) for name in ("frames", "width", "height")}
    work = Work(**size, window=size["frames"], clips=1, guided=True, passes=steps, encoded=0)
    speeds = {str(d).removeprefix("torch."): matrix_speed(CPU, d) for d in (torch.float32, torch.bfloat16)}
    flops = clip_flops(loaded(pipe.components), work)
    return {
        "clip_tflop": flops / 1e12,
        "matrix_tflops": {name: speed / 1e12 for name, speed in speeds.items()},
        "floor_seconds": {name: flops / speed for name, speed in speeds.items()},
    }


def told(result: dict[str, Any]) -> str:
    """The figures for people."""
    width = max(map(len, SIDES))
    lines = [f"{result['device']}, {result['threads']} threads, {result['date']}, {result['versions']}"]
    lines.append(f"{'':{width}}  s/clip  least to most  first clip   ms/step")
    for name, side in result["sides"].items():
        lines.append(
            f"{name:{width}} {side['seconds_per_clip']:7.2f}  "
            f"{side['least_seconds']:5.2f} to {max(side['clip_seconds']):5.2f} "
            f"{side['first_clip_seconds']:11.2f}  {side['ms_per_step']:8.1f}"
        )
    better = result["better"]
    lines.append(f"{better['kinescribe']} is {result['faster']:.2f} times as fast as {better['diffusers']}")
    lines.append(
        f"by the least seconds {result['faster_at_best']:.2f}, by the first clip {result['faster_first']:.2f}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
