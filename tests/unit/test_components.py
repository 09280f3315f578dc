"""A loaded model moves as one."""

import torch

from kinescribe.components import Components


def test_all_parts_move_together(components: Components) -> None:
    assert components.device == torch.device("cpu")
    assert components.dtype == torch.float32
    assert components.to(dtype=torch.bfloat16) is components
    for network in (components.unet, components.vae, components.text):
        assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert components.to("meta").device.type == "meta"
