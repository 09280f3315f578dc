"""The judge of the world: says from pixels alone what a clip shows, to measure how well a model keeps to its prompt.

It was trained on renders only, worn a little (blur, noise, light), and never on held-out combinations.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from kinescribe.errors import WeightsError
from kinescribe.world.judge_network import Answers, JudgeConfig, JudgeNetwork

ASSETS = Path(__file__).parents[1] / "assets" / "judge"
WEIGHTS_FILE = "judge.safetensors"
CARD_FILE = "judge.json"
QUESTIONS = ("subject", "colour", "scene", "time", "motion", "camera", "count")
JUDGED_AT_ONCE = {"cuda": 128, "cpu": 8}

SMALL = JudgeConfig(size=128, frames=16, widths=(24, 48, 72, 96), groups=8, keypoints=24, codes=6, width=64)
"""The sizes of the judge that ships with the package."""


@dataclass(frozen=True)
class Sprites:
    """What stands in one half of the frame: indices into `SUBJECTS` and `COLOURS`."""

    subject: Int[Tensor, " n"]
    colour: Int[Tensor, " n"]

    def take(self, rows: Int[Tensor, " m"]) -> "Sprites":
        """Those of some clips."""
        return Sprites(self.subject[rows], self.colour[rows])


@dataclass(frozen=True)
class Verdict:
    """What each of n clips shows, as indices into the tables of `world.clip`; on the CPU.

    `subject` and `colour` are meant for clips with one subject; where `count` is 2, `left` and `right` tell them
    apart. `confidence` holds a probability for each of the seven answers, by name.
    """

    subject: Int[Tensor, " n"]
    colour: Int[Tensor, " n"]
    scene: Int[Tensor, " n"]
    time: Int[Tensor, " n"]
    motion: Int[Tensor, " n"]
    camera: Int[Tensor, " n"]
    count: Int[Tensor, " n"]
    left: Sprites
    right: Sprites
    confidence: dict[str, Float[Tensor, " n"]]

    def take(self, rows: Int[Tensor, " m"]) -> "Verdict":
        """The verdict on some of the clips."""
        return Verdict(
            **{name: getattr(self, name)[rows] for name in QUESTIONS},
            left=self.left.take(rows),
            right=self.right.take(rows),
            confidence={name: values[rows] for name, values in self.confidence.items()},
        )


class Judge:
    """A loaded judge; call it with clips."""

    def __init__(self, network: JudgeNetwork) -> None:
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path = ASSETS, *, device: torch.device | str = "cpu") -> "Judge":
        """The judge of a folder (the one of the package by default), in float32.

        Raises `WeightsError` if there is none or it does not fit.
        """
        try:
            table = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))["config"]
            network = JudgeNetwork(JudgeConfig(**(table | {"widths": tuple(table["widths"])})))
            network.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise WeightsError(
                f"no usable judge in {folder} ({error}): train one with python -m kinescribe.train.judge --out DIR"
            ) from error
        return cls(network.float().to(device))

    @torch.no_grad()
    def __call__(self, frames: UInt8[Tensor, "n f h w 3"]) -> Verdict:
        """Judge clips of any length and size; 16 frames spread evenly over each are looked at, at 128 x 128."""
        device = next(self.network.parameters()).device
        answers = []
        for part in torch.split(frames, JUDGED_AT_ONCE.get(device.type, 8)):
            clips = fitted(part.to(device), self.network.config)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                answers.append(self.network(clips))
        return verdict(answers)


def verdict(answers: list[Answers]) -> Verdict:
    """The most probable answers, part by part put together."""
    every = {name: torch.cat([getattr(part, name) for part in answers]).float().cpu() for name in QUESTIONS}
    whole = {name: logits[:, 0] if logits.ndim == 3 else logits for name, logits in every.items()}
    best = {name: logits.softmax(1).max(1) for name, logits in whole.items()}
    ids = {name: found.indices for name, found in best.items()}
    halves = [Sprites(every["subject"][:, k].argmax(1), every["colour"][:, k].argmax(1)) for k in (1, 2)]
    return Verdict(
        **(ids | {"count": ids["count"] + 1}),
        left=halves[0],
        right=halves[1],
        confidence={name: found.values for name, found in best.items()},
    )


def fitted(frames: UInt8[Tensor, "n f h w 3"], config: JudgeConfig) -> Float[Tensor, "n k 3 s s"]:
    """Clips as the network takes them: its number of frames and pixels, in [-1, 1]."""
    chosen = torch.linspace(0, frames.shape[1] - 1, config.frames).round().long().to(frames.device)
    pictures = rearrange(frames[:, chosen], "n f h w c -> (n f) c h w").float() / 127.5 - 1
    if pictures.shape[-2:] != (config.size, config.size):
        pictures = F.interpolate(pictures, size=(config.size, config.size), mode="bilinear", antialias=True)
    return rearrange(pictures, "(n f) c h w -> n f c h w", f=config.frames)


def save_judge(folder: Path, network: JudgeNetwork, facts: dict[str, object]) -> None:
    """Write a network in fp16, and its card: the sizes and `facts` worth knowing of it, such as its accuracy."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half().contiguous().cpu() for name, tensor in network.state_dict().items()}
    (folder / WEIGHTS_FILE).write_bytes(save(tensors))
    card = {"config": dataclasses.asdict(network.config), **facts}
    (folder / CARD_FILE).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
