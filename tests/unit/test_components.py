"""A loaded model moves as one."""

import copy
import dataclasses

import pytest
import torch

from kinescribe.components import Components
from kinescribe.errors import OptionError
from kinescribe.pipelines.text_to_video import TextToVideoPipeline


def test_all_parts_move_together(components: Components) -> None:
    assert components.device == torch.device("cpu")
    assert components.dtype == torch.float32
    assert components.to(dtype=torch.bfloat16) is components
    assert components.networks == (components.unet, components.vae, components.text)
    for network in components.networks:
        assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert components.to("meta").device.type == "meta"


def test_a_model_without_text_says_so_when_asked(components: Components) -> None:
    tokenizer, text = components.require_text()
    assert (tokenizer, text) == (components.tokenizer, components.text)
    components.text = None
    assert len(components.networks) == 2
    with pytest.raises(OptionError, match="tiny reads no text"):
        components.require_text()


def test_other_networks_are_not_where_the_first_were(components: Components) -> None:
    TextToVideoPipeline(components)("a boat rises", steps=1)
    assert components.placement is not None  # it calls the first network
    other = copy.deepcopy(components.unet)
    assert dataclasses.replace(components, unet=other).placement is None
