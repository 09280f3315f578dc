"""What is known of a model before its weights are read is what is loaded then."""

import pytest
import torch

from conftest import tiny_components
from goldens import folder
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.load import load_components
from kinescribe.components import Components
from kinescribe.perf.outline import Outline, loaded, outline_of

G = 2**30


def held(components: Components) -> int:
    return sum(p.nbytes for network in components.networks for p in network.parameters())


@pytest.mark.parametrize("layout", ["text_to_video/diffusers", "image_and_video_to_video/i2vgen-xl"])
def test_a_folder_is_outlined_as_it_is_loaded(layout: str) -> None:
    path = folder(layout)
    components = load_components(path, dtype=torch.float32)
    outline = outline_of(describe(path, variant=None, spec=None), torch.float32, torch.float32)
    assert outline == loaded(components)
    assert sum(map(outline.bytes, outline.parts)) == held(components)


def test_towers_may_have_a_format_of_their_own() -> None:
    components = tiny_components()
    whole = held(components)
    components.to(dtype=torch.bfloat16)
    assert components.text is not None
    components.text.float()
    outline = loaded(components)
    assert whole / 2 < sum(map(outline.bytes, outline.parts)) == held(components) < whole
    assert outline.dtype_of("unet") == outline.dtype_of("vae") == torch.bfloat16
    assert next(outline.network("text").parameters()).dtype == torch.float32


def test_published_sizes_are_those_of_the_published_weights(large: Outline) -> None:
    assert large.bytes("unet") == 2 * 1_411_233_860
    assert large.bytes("vae") == 2 * 83_653_863
    assert large.bytes("text") == 2 * 340_387_840
    assert large.bytes("vision") == 0
