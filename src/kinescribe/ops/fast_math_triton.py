"""Functions of Triton kernels that a GPU has one instruction for.

Triton's own take three to five for numbers too small for it, which sums of these with 1 do not tell from zero. Powers
and reciprocals are right to 2 units in the last place of a float32, the tangent to 2^-11.
"""

import triton
import triton.language as tl

INTERPRETED: tl.constexpr = tl.constexpr(triton.knobs.runtime.interpret)
"""Whether kernels run on the CPU, which has no such instructions."""


@triton.jit
def exp2(x):
    """2 to the power of ``x``, float32; zero below -126."""
    if INTERPRETED:
        out = tl.exp2(x)
    else:
        out = tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return out


@triton.jit
def reciprocal(x):
    """1 over ``x``, float32."""
    if INTERPRETED:
        out = 1.0 / x
    else:
        out = tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return out


@triton.jit
def tanh(x):
    """The hyperbolic tangent of ``x``, float32."""
    if INTERPRETED:
        out = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * x))
    else:
        out = tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return out
