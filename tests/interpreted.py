"""GPU kernels without a GPU: run on the CPU by Triton's interpreter, or only compiled."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton comes with builds of torch for a GPU only"
)


COMPILER = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# tiles: the shapes of arguments that are descriptors; kinds: those of arguments by name, where others than usual
def build(kernel, warps=4, stages=3, generations=(80, 90), tiles={}, kinds={}, **constants):
    def kind(name):
        if name in kinds:
            return kinds[name]
        if name in tiles:
            return f"tensordesc<fp16{list(tiles[name])}>"
        if name.endswith("_ptr"):
            return "*fp32" if name in ("mean_ptr", "square_ptr") else "*fp16"
        return "constexpr" if name in constants else "fp32" if name in ("eps", "scale") else "i32"

    names = kernel.arg_names
    for generation in generations:
        kilobytes = {80: 163, 90: 227}[generation]
        source = ASTSource(
            fn=kernel, signature={name: kind(name) for name in names},
            constexprs={(names.index(name),): value for name, value in constants.items()},
        )
        options = {"num_warps": warps, "num_stages": stages}
        made = triton.compile(source, target=GPUTarget("cuda", generation, 32), options=options)
        assert made.metadata.shared <= 1024 * kilobytes, (kernel, constants)
    return made.asm["ptx"]
"""


def compiled(script: str) -> None:
    """Fails if a kernel that the script gives to ``build``, with its constants, does not compile for a generation."""
    run(COMPILER + script, interpreted=False)


def run(script: str, *, interpreted: bool = True) -> None:
    """Fails with what the script wrote to its errors.

    A process of its own: the interpreter is chosen when Triton is imported, and the checks of the other tests
    rewrite functions, which kernels do not survive.
    """
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TRITON_INTERPRET": str(int(interpreted))}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("this Triton's interpreter cannot count loops with this numpy")
    assert done.returncode == 0, done.stderr
