"""Compilation of a UNet block by block."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import manual_seed, nn

from kinescribe.models.unet import UNet, UNetConfig
from kinescribe.train.compiled import BLOCKS, compile_blocks

SIZES = UNetConfig(
    in_channels=4, out_channels=4, width=32, multipliers=(1, 1), blocks_per_level=1, attention_levels=(True, True),
    head_dim=32, stem_heads=1, context_dim=16, groups=16, dropout=0.0,
)  # fmt: skip


def wakened() -> UNet:
    """A UNet whose branches, zero at birth, all count."""
    manual_seed(0)
    unet = UNet(SIZES)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.05)
    return unet


def test_every_block_is_compiled_and_keeps_its_names() -> None:
    unet = wakened()
    names = [name for name, _ in unet.named_parameters()]
    compile_blocks(unet)
    blocks = [module for module in unet.modules() if isinstance(module, BLOCKS)]
    assert len(blocks) == 23
    assert all(block._compiled_call_impl is not None for block in blocks)
    assert unet._compiled_call_impl is None
    assert [name for name, _ in unet.named_parameters()] == names


SCRIPT = """
import torch
from test_compiled import wakened
from kinescribe.models.conditions import Conditioning
from kinescribe.train.compiled import compile_blocks

unet = wakened()
x, t, told = torch.randn(2, 4, 4, 8, 8), torch.tensor([3, 5]), Conditioning(tokens=torch.randn(2, 6, 16))

def answer():
    unet.zero_grad()
    out = unet(x, t, told)
    out.square().mean().backward()
    return out.detach(), [p.grad.clone() for p in unet.parameters() if p.grad is not None]

plain = answer()
compile_blocks(unet)
torch.testing.assert_close(answer(), plain, rtol=1e-4, atol=1e-6)
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


WHOLE = """
import torch
from test_compiled import BLOCKS, wakened
from kinescribe.models.conditions import Conditioning

unet = wakened()
for module in unet.modules():
    if isinstance(module, BLOCKS):
        module.compile(dynamic=False, fullgraph=True, backend="eager")  # an error where a piece would be left
x, t, told = torch.randn(2, 4, 3, 8, 8), torch.ones(2), Conditioning(tokens=torch.randn(2, 7, 16))
unet(x, t, told).sum().backward()
with torch.no_grad():
    unet(x, t, told)
"""


@pytest.mark.slow
def test_compiled_blocks_give_the_plain_numbers_and_gradients() -> None:
    assert int(run(SCRIPT)) == 9


@pytest.mark.slow
def test_every_block_is_compiled_in_one_piece() -> None:
    run(WHOLE)


def run(script: str) -> str:
    """What a script writes, in a process of its own: what checks shapes in this one cannot be traced."""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
