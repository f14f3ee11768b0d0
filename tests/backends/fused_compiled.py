"""The fused kernel, compiled for GPUs that need not be here; ``test_fused`` runs this."""

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from qvggt.backends.fused import TILES, _multiply

AMPERE, ADA, HOPPER = 80, 89, 90
SHARED_BYTES = 99 * 1024
"""That a program may have on the smallest of them."""


def compiled(capability, tile, dtype, bits=4, inputs=None, zeros=True, bias=True, **constants):
    types = dict.fromkeys(_multiply.arg_names, "i32")
    types |= {"x_at": f"*{dtype}", "out_at": f"*{dtype}", "packed_at": "*i32", "scale_at": "*fp16"}
    types |= {"zero_at": "*i32", "bias_at": "*fp32"}
    constants |= {"BITS": bits, "TOKENS": tile.tokens, "OUTPUTS": tile.outputs, "INPUTS": inputs or tile.inputs}
    constants |= {name: None for name, there in (("zero_at", zeros), ("bias_at", bias)) if not there}
    types |= dict.fromkeys(constants, "constexpr")
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    return triton.compile(ASTSource(_multiply, types, constants), GPUTarget("cuda", capability, 32), options)


CASES = [
    *((AMPERE, tile, "fp32") for tile in TILES),  # the most shared memory
    *((HOPPER, tile, "fp16") for tile in TILES),
    (HOPPER, TILES[-1], "fp32"),
    (AMPERE, TILES[0], "bf16"),
    (HOPPER, TILES[1], "bf16"),
]
"""Every tile, dtype and GPU, and every pair of dtype and GPU but one."""


@pytest.mark.parametrize(("capability", "tile", "dtype"), CASES, ids=str)
def test_multiply__compiles_for_the_matrix_units_of_a_gpu(capability, tile, dtype):
    kernel = compiled(capability, tile, dtype)
    assert "mma" in kernel.asm["ptx"]
    assert kernel.metadata.shared <= SHARED_BYTES


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", [True, False])
def test_every_width_compiles(bits, zeros):
    compiled(ADA, TILES[0], "fp16", bits, 16, zeros, bias=False)


def test_one_token_and_one_group_compile():
    compiled(AMPERE, TILES[0], "fp16", rows=1, groups=1)
