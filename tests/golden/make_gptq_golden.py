"""Make ``gptq.safetensors``: the codes to which the GPTQ of ``llmcompressor`` rounds a small layer on our levels.

Run from the repository's root where qvggt and llmcompressor are installed: ``python tests/golden/make_gptq_golden.py``.
See README.md beside this file.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from qvggt.quant.affine import Grid, fit_grid
from qvggt.quant.scheme import Scheme

GPTQ_GOLDEN = Path(__file__).with_name("gptq.safetensors")
ROWS, WIDTH, TOKENS, BLOCK = 24, 160, 200, 64
CASES = [
    (Scheme(4, 32), False),
    (Scheme(4, 32), True),
    (Scheme(3, 32, False), True),
    (Scheme(2, 16, False, "mse"), True),
    (Scheme(4, -1, False, "mse"), False),
    (Scheme(8, -1), False),
]
"""Schemes, and whether the columns are ordered by their input."""


def small_layer() -> tuple[Tensor, Tensor]:
    """Return a weight [ROWS, WIDTH] that float16 holds and inputs [TOKENS, WIDTH] int8 with a few loud channels."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(ROWS, WIDTH, generator=generator) * torch.rand(ROWS, 1, generator=generator) * 0.1
    mixing = torch.randn(WIDTH, WIDTH, generator=generator) / WIDTH**0.5
    loudness = torch.rand(WIDTH, generator=generator) * 12 + 2
    loudness[::37] *= 5
    inputs = (torch.randn(TOKENS, WIDTH, generator=generator) @ mixing + 0.3) * loudness
    return weight.half(), inputs.round().clamp(-127, 127).to(torch.int8)


def hessian_of(inputs: Tensor) -> Tensor:
    """Return the sum of x xᵀ in float64: of integers, so exactly."""
    return inputs.double().T @ inputs.double()


def published_codes(weight: Tensor, hessian: Tensor, scheme: Scheme, grid: Grid, act_order: bool) -> Tensor:
    """Return the codes [out, in] to which llmcompressor's GPTQ rounds a weight on given levels."""
    from compressed_tensors.quantization import QuantizationArgs
    from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight

    strategy = {"strategy": "channel"} if scheme.group_size == -1 else {"group_size": scheme.group_size}
    arguments = QuantizationArgs.model_validate(
        {
            "num_bits": scheme.bits,
            "symmetric": scheme.symmetric,
            "actorder": "static" if act_order else None,
            **strategy,
        }
    )
    # In float32, so that what it returns decodes to codes without a rounding of its own.
    scale = grid.scale.float()
    offset = torch.zeros_like(scale) if grid.zero_point is None else grid.zero_point.float()
    rounded, _, fell_back = quantize_weight(
        weight.float()[None].clone(), hessian.float()[None].clone(), scale[None], offset[None].to(torch.int8), None,
        arguments, blocksize=BLOCK,
    )  # fmt: skip
    assert not fell_back.any()
    repeats = weight.shape[1] // scale.shape[1]
    codes = rounded[0] / scale.repeat_interleave(repeats, 1) + offset.repeat_interleave(repeats, 1)
    assert (codes - codes.round()).abs().max() < 1e-3
    return codes.round().to(torch.int8)


def main() -> None:
    """Write the file."""
    weight, inputs = small_layer()
    stored = {"weight": weight, "inputs": inputs}
    for number, (scheme, act_order) in enumerate(CASES):
        grid = fit_grid(weight, scheme)
        stored[f"{number}.scale"] = grid.scale
        if grid.zero_point is not None:
            stored[f"{number}.zero_point"] = grid.zero_point
        stored[f"{number}.codes"] = published_codes(weight, hessian_of(inputs), scheme, grid, act_order)
    cases = [{"scheme": scheme.to_json(), "act_order": act_order} for scheme, act_order in CASES]
    made_by = {name: version(name) for name in ("llmcompressor", "compressed-tensors", "torch")}
    save_file(stored, GPTQ_GOLDEN, {"cases": json.dumps(cases), "block": str(BLOCK), "made_by": json.dumps(made_by)})


if __name__ == "__main__":
    main()
