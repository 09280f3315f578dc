"""A UNet and an autoencoder with the kernels for GPUs, run by Triton's interpreter, equal the plain ones."""

from interpreted import needs_triton, run

SCRIPT = """
import sys
from dataclasses import replace

import torch
from kinescribe.checkpoints.modelscope import UNET
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL, VAEConfig
from kinescribe.models import blocks, transformer
from kinescribe.models import unet as unet_module
from kinescribe.ops import attention, convolution, group_norm, layer_norm, linear, parts, temporal, upsample
from kinescribe.ops.convolution_triton import add_biased_op
from kinescribe.ops.frame_attention_triton import frame_attention_op
from kinescribe.ops.group_norm_triton import group_norm_of_parts_op, group_norm_op
from kinescribe.ops.kept import Keeps
from kinescribe.ops.layer_norm_triton import add_layer_norm_op, layer_norm_op
from kinescribe.ops.upsample_triton import place_op

ran = set()


def serve(op):
    name, plain = op.known._name, op.plain

    def work(*args):
        ran.add(name)
        return plain(*args)

    op.plain = work


written = []
gated = transformer.linear_geglu


def noted(x, weight, bias, *out):
    written.extend(out)
    return gated(x, weight, bias, *out)


transformer.linear_geglu = noted
OPS = (add_biased_op, frame_attention_op, group_norm_op, group_norm_of_parts_op, add_layer_norm_op, layer_norm_op,
       place_op)
for op in OPS:
    serve(op)
torch.manual_seed(0)
config = replace(UNET, width=32, multipliers=(1, 2), blocks_per_level=1, attention_levels=(True, False), head_dim=16,
                 stem_heads=2, context_dim=24, groups=8)
sizes = VAEConfig(in_channels=3, latent_channels=4, width=16, multipliers=(1, 2), blocks_per_level=1, groups=4, scale=1)
unet, vae = UNet(config).eval(), AutoencoderKL(sizes).eval()
for parameter in (*unet.parameters(), *vae.parameters()):
    torch.nn.init.normal_(parameter, std=0.1)
unet.lay_together()
x, t = torch.randn(2, 4, 5, 6, 4), torch.tensor([7.0, 300.0])
told = Conditioning(tokens=torch.randn(4, 9, 24))
with torch.inference_mode():
    plain, pictures = unet(x, t, told), vae.decode(x[0].transpose(0, 1))
    for module in (convolution, group_norm, layer_norm, linear, parts, upsample):
        module.kernels_serve = lambda *_: True
    attention.frame_attention_version = lambda *_: "kernel"
    upsample.phases_pay = blocks.windows_serve = lambda *_: True
    fast, fast_pictures = unet(x, t, told), vae.decode(x[0].transpose(0, 1))
    unet_module.kernels_serve = lambda *_: True
    for module in unet.modules():
        if isinstance(module, Keeps):
            module.keep()
    temporal.PIXELS_BY_CLIP = 1
    ended_by_pixel = unet(x, t, told)
    assert len(written) == 8  # one block down, two up and the middle have two transformers each
assert ran == {op.known._name for op in OPS}, ran
assert plain.abs().max() > 0.1
assert "torch._dynamo" not in sys.modules  # it takes seconds to import
for found in (fast, ended_by_pixel):
    assert (found - plain).norm() < 1e-5 * plain.norm(), float((found - plain).norm() / plain.norm())
assert (fast_pictures - pictures).norm() < 1e-5 * pictures.norm()
"""

EIGHT = """
from dataclasses import replace

import torch
from kinescribe.checkpoints.modelscope import UNET
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.models import unet as unet_module
from kinescribe.ops import ending, layer_norm, layer_norm_triton, linear, linear_fp8_triton
from kinescribe.ops.kept import Keeps
from kinescribe.ops.linear_fp8 import in_eight_bits
from kinescribe.ops.tiles import EndTile, Tile
from kinescribe.perf import fp8
from kinescribe.perf.fp8 import copies_of

fp8.end_tile = lambda *_: EndTile(32, 16, 16, 16, warps=4, stages=2)  # so that narrow ends have copies too
normed, ran = layer_norm_triton.forward_rows8, set()


def noted(x, y, *given):
    ran.add("norm" if y is None else "norm of a sum")
    return normed(x, y, *given)


layer_norm_triton.forward_rows8 = noted
torch.manual_seed(0)
config = replace(UNET, width=32, multipliers=(1,), blocks_per_level=1, attention_levels=(True,), head_dim=16,
                 stem_heads=2, context_dim=24, groups=8)
unet = UNet(config).eval()
for name, parameter in unet.named_parameters():
    torch.nn.init.normal_(parameter, std=0.3 if ".layer." in name or "project" in name else 0.1)
unet.lay_together()
x, t = torch.randn(1, 4, 3, 4, 4), torch.tensor([300.0])
told = Conditioning(tokens=torch.randn(2, 9, 24))  # the text enters where the norm of one clip becomes that of two
with torch.inference_mode():
    plain = unet(x, t, told)
    with in_eight_bits(copies_of(unet)):
        near = unet(x, t, told)
        for module in (layer_norm, linear):
            module.kernels_serve = lambda *_: True
        layer_norm.eight_bits_serve = linear.products_serve = lambda *_: True
        for module in (ending, linear, linear_fp8_triton):
            module.linear_tile_fp8 = lambda *_: Tile(32, 64, 32, warps=4, stages=2)
        gated, made = linear_fp8_triton.linear_gated_fp8, []
        linear_fp8_triton.linear_gated_fp8 = lambda *given: made.append(gated(*given))
        fast = unet(x, t, told)
        joined, ends = linear_fp8_triton.linear_joined_fp8, []
        linear_fp8_triton.linear_joined_fp8 = lambda *given: ends.append(joined(*given))
        for module in (ending, linear_fp8_triton):
            module.end_tile = lambda *_: EndTile(32, 16, 16, 16, warps=4, stages=2)
        ending.products_serve = unet_module.kernels_serve = lambda *_: True
        for module in unet.modules():
            if isinstance(module, Keeps) and isinstance(module, unet_module.Attending):
                module.keep()
        ended = unet(x, t, told)
assert ran == {"norm", "norm of a sum"} and made, (ran, made)
assert len(ends) == 8, len(ends)  # one block down, two up and the middle have two transformers each
# the interpreter's casts to 8 bits are worse than those of devices
for found in (near, fast, ended):
    assert 1e-4 < (found - plain).norm() / plain.norm() < 0.12, float((found - plain).norm() / plain.norm())
"""


@needs_triton
def test_the_network_with_kernels_gives_the_numbers_of_the_plain_one() -> None:
    run(SCRIPT)


@needs_triton
def test_the_network_with_kernels_of_eight_bits_is_near_the_plain_one() -> None:
    run(EIGHT)
