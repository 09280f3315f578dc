"""What every side of the comparison runs: the cases, and networks of one set of random numbers under each one's names.

The numbers are drawn on the device from a seed for each network, so that processes that know nothing of each other
have the same ones. They are scaled so that every activation stays finite in half precision.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.keymap import Aliases, Foreign
from kinescribe.checkpoints.modelscope import I2VGEN_XL, SCHEDULES, UNET, VAE, VIT_H
from kinescribe.checkpoints.modelscope import TEXT as FULL_TEXT
from kinescribe.checkpoints.source import Config, PartName, blank, part
from kinescribe.components import Components
from kinescribe.models.image_conditions import ImageConditionsConfig
from kinescribe.models.text import TextConfig
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig
from kinescribe.models.vision import VisionConfig
from make_random_folder import random_tensors

PROMPT = "a panda eating bamboo on a rock"
GUIDANCE = 9.0
# Towers that only turn ids and pictures into something of the right shape, as every side begins with embeddings.
TEXT = TextConfig(vocabulary=64, width=1024, layers=1, heads=16, mlp_width=64, context_length=77)
VISION = VisionConfig(width=64, layers=1, heads=1, mlp_width=64, patch=14, size=224, embedding_width=1024)
SEEDS: dict[PartName, int] = {"unet": 1, "vae": 2, "text": 3, "conditions": 4, "vision": 5}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model at a size: what is timed of it, and the configurations of its networks.

    ``whole`` cases are timed from embeddings to frames, the others by the step.
    """

    model: str
    frames: int
    height: int
    width: int
    steps: int
    whole: bool = False
    unet: UNetConfig = UNET
    vae: VAEConfig = VAE
    conditions: ImageConditionsConfig | None = None

    @property
    def latents(self) -> tuple[int, int, int, int]:
        """Channels, frames, rows and columns."""
        return self.vae.latent_channels, self.frames, self.height // 8, self.width // 8


CASES = {
    "t2v": Case(model="modelscope-1.7b", frames=16, height=256, width=256, steps=25, whole=True),
    "zeroscope": Case(model="zeroscope-v2-576w", frames=24, height=320, width=576, steps=25),
    "i2vgen": Case(
        model="i2vgen-xl", frames=16, height=704, width=1280, steps=50,
        # diffusers adds what is made of the picture once, VGen twice: no difference in speed
        unet=replace(UNET, in_channels=8), conditions=replace(I2VGEN_XL, local_additions=1),
    ),
    "v2v": Case(
        model="modelscope-video-to-video", frames=32, height=720, width=1280, steps=30,
        unet=replace(UNET, row_padding=2),
    ),
}  # fmt: skip


def tiny(case: Case) -> Case:
    """The same work in small, which tells whether the scripts run, and nothing of speed."""
    small = {"width": 32, "multipliers": (1, 2, 2, 2), "head_dim": 8}
    conditions = None if case.conditions is None else replace(case.conditions, width=32)
    return replace(
        case, frames=4, height=case.height % 64 + 64, width=64, steps=4, unet=replace(case.unet, **small),
        vae=replace(VAE, width=32, multipliers=(1, 1, 1, 1), blocks_per_level=1), conditions=conditions,
    )  # fmt: skip


def numbers(config: Config, name: PartName, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of one network under our names."""
    return dict(random_tensors(config, torch.Generator(device).manual_seed(SEEDS[name]), dtype))


def network(config: Config, name: PartName, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """One of our networks with its numbers, ready to run."""
    ours = blank(config)
    ours.load_state_dict(numbers(config, name, device, dtype), assign=True)
    return ours.requires_grad_(False).eval()


def foreign(
    config: Config, name: PartName, layout: Foreign, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The same numbers under the names of another library."""
    keymap = part(config, layout=layout, files=(), wanted="", aliases=Aliases()).keymap
    return dict(keymap.to_foreign(numbers(config, name, device, dtype).__getitem__))


def components(case: Case, device: torch.device, dtype: torch.dtype, *, towers: bool = False) -> Components:
    """A model of random numbers; the published towers, 0.6 GiB for text and 1.2 for pictures, only if ``towers``."""
    spec, pictured = CATALOG[case.model], case.conditions is not None
    text, vision = (FULL_TEXT, VIT_H) if towers else (TEXT, VISION)
    return Components(
        unet=network(case.unet, "unet", device, dtype),  # type: ignore[arg-type]
        vae=network(case.vae, "vae", device, dtype),  # type: ignore[arg-type]
        text=network(text, "text", device, dtype),  # type: ignore[arg-type]
        tokenizer=Tokenizer.clip() if towers else few_words(),
        schedule=SCHEDULES[spec.noise],
        spec=spec,
        source="random numbers",
        model_hash="0" * 16,
        conditions=network(case.conditions, "conditions", device, dtype) if pictured else None,  # type: ignore
        vision=network(vision, "vision", device, dtype) if pictured else None,  # type: ignore[arg-type]
    )


def few_words() -> Tokenizer:
    """A tokenizer that knows the prompt."""
    return Tokenizer.clip(keep=sorted(set(Tokenizer.clip().encode(PROMPT))))


def embeddings(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What our text tower makes of the negative prompt and of the prompt: ``(1, 77, 1024)`` each."""
    ids = few_words()(["", PROMPT]).ids.to(device)
    with torch.inference_mode():
        both = network(TEXT, "text", device, dtype)(ids)
    return both[:1].clone(), both[1:].clone()


def start(case: Case, seed: int) -> Tensor:
    """The noise that every side begins with, ``(1, c, f, h, w)`` on the host."""
    return torch.randn((1, *case.latents), generator=torch.Generator().manual_seed(seed))
