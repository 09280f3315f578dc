"""Descriptions of models on disk."""

import subprocess
import sys
from dataclasses import replace

from goldens import folder
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.modelscope import UNET
from kinescribe.checkpoints.source import blank, same_vocabulary
from kinescribe.models.tokenizer import Tokenizer

FIXTURE = folder("text_to_video")


def test_a_blank_network_takes_no_memory_and_draws_no_numbers() -> None:
    code = (
        "import sys\n"
        "from kinescribe.checkpoints.modelscope import TEXT, UNET, VAE\n"
        "from kinescribe.checkpoints.source import blank\n"
        "before = 'torch._dynamo' in sys.modules\n"
        "assert all(p.is_meta for config in (UNET, VAE, TEXT) for p in blank(config).parameters())\n"
        "assert before or 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sum(p.numel() for p in blank(UNET).parameters()) == 1_411_233_860


def test_only_absent_parts_are_taken_from_another_folder() -> None:
    one = describe(FIXTURE / "modelscope", variant=None, spec=None)
    other = describe(FIXTURE / "diffusers", variant=None, spec=None)
    assert one.completed_from(other) == one
    halved = replace(one, text=replace(one.text, files=()))
    whole = halved.completed_from(other)
    assert (whole.unet, whole.vae, whole.text) == (one.unet, one.vae, other.text)
    assert whole.tokenizer == other.tokenizer
    assert (whole.schedule, whole.spec) == (one.schedule, one.spec)


def test_vocabularies_are_compared_by_their_ids() -> None:
    modelscope, diffusers = (
        describe(FIXTURE / layout, variant=None, spec=None).tokenizer.load().full
        for layout in ("modelscope", "diffusers")
    )
    assert same_vocabulary(modelscope, diffusers)
    assert not same_vocabulary(modelscope, Tokenizer.clip().full)
