"""What a CUDA GPU makes of packed weights: single products, then whole models. ``make bench-gpu`` runs this."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kernels import SHAPES
from qvggt.backends.autotune import Timer, cuda_seconds
from qvggt.backends.cuda import CudaBackend
from qvggt.backends.cuda_int8 import CudaInt8Backend
from qvggt.quant.affine import quantize
from qvggt.quant.packing import PackedWeight, pack
from qvggt.quant.scheme import Scheme

TOKENS = 1374
"""Of one frame of 518 x 518 px."""
SCHEME = Scheme(4, 128)
FRAMES = ("1", "2", "8")
MODEL = "seeded:vggt-1b"
CUDA, INT8 = CudaBackend(), CudaInt8Backend()


def main() -> int:
    """Measure and print; return the exit status."""
    if not torch.cuda.is_available():
        print("There is no CUDA GPU that torch can use here: run this on a machine with one.", file=sys.stderr)
        return 1
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    Console(width=100).print(product_table(device, TOKENS, cuda_seconds))
    print("int8, kept: its weights are rounded to a scale a channel beforehand; as a model runs, at each product\n")
    return whole_models()


def product_table(device: torch.device, tokens: int, seconds: Timer) -> Table:
    """Return milliseconds and speed against float32 of every kind of product, a row each, a column a shape."""
    table = Table("product", box=None, header_style="bold", pad_edge=False)
    for inputs, outputs in SHAPES:
        table.add_column(f"{inputs} to {outputs}, ms", justify="right")
    rows: dict[str, list[str]] = {}
    for inputs, outputs in SHAPES:
        baseline = 0.0
        for name, run in products(device, tokens, inputs, outputs):
            cells = rows.setdefault(name, [])
            try:
                taken = seconds(run)
            except Exception as error:  # one product that a GPU cannot compute does not hide the others
                print(f"{name}, {inputs} to {outputs}: {error}", file=sys.stderr)
                cells.append("failed")
                continue
            baseline = baseline or taken
            cells.append(f"{1000 * taken:.3f} ({baseline / taken:.2f}x)")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def products(
    device: torch.device, tokens: int, inputs: int, outputs: int
) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Yield every kind of product of x [tokens, inputs] with a weight [outputs, inputs], float32 first."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, inputs, generator=generator).to(device)
    weight = torch.randn(outputs, inputs, generator=generator).to(device)
    bias = torch.zeros(outputs, device=device)
    packed = pack(quantize(weight, SCHEME, scale_dtype=torch.float16))
    for dtype in (torch.float32, torch.float16):
        name = str(dtype).removeprefix("torch.")
        yield name, partial(F.linear, x.to(dtype), weight.to(dtype), bias.to(dtype))
        for way, run in CUDA.candidates(x.to(dtype), packed, bias).items():
            yield f"W4, {name}, {way}", run
        kept = INT8.prepare(packed, tokens)
        yield f"int8, {name}, kept", partial(INT8.linear, x.to(dtype), kept, bias)
        yield f"int8, {name}", partial(prepared_anew, x.to(dtype), packed, bias)


def prepared_anew(x: Tensor, packed: PackedWeight, bias: Tensor) -> Tensor:
    """Multiply integers as a model does that keeps nothing but packed weights."""
    return INT8.linear(x, INT8.prepare(packed, len(x)), bias)


def whole_models() -> int:
    """Quantize the full-size model and measure it against its float self; return the exit status."""
    qvggt = [sys.executable, "-m", "qvggt"]
    with tempfile.TemporaryDirectory(prefix="qvggt-bench-gpu-") as folder:
        checkpoint = str(Path(folder) / "vggt-4bit")
        quantized = subprocess.run([*qvggt, "quantize", MODEL, "-o", checkpoint], check=False)
        if quantized.returncode:
            return quantized.returncode
        measured = [*qvggt, "bench", checkpoint, "--against", MODEL, "--device", "cuda", "--frames", *FRAMES]
        return subprocess.run(measured, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
