"""What a GPU makes of packed weights: the tests that need one, single products, then whole models.

    python benchmarks/gpu.py [--device NAME] [--model NAME] [--frames N ...] [--size PX] [--repeats N] [--tests]
        [--json FILE]

``make bench-gpu`` runs this with ``--tests``. Without a GPU, ``--device cpu --model seeded:micro --size 56`` shows that
it works.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gpu_models import OUTPUTS, WAYS, Load, measure_models
from kernels import SHAPES
from qvggt.api.quantize import quantize_to
from qvggt.backends.autotune import Timer, cuda_seconds
from qvggt.backends.cuda import CudaBackend
from qvggt.backends.cuda_int8 import CudaInt8Backend
from qvggt.bench.machine import describe_machine
from qvggt.quant.affine import quantize
from qvggt.quant.packing import PackedWeight, pack
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError
from timing import show_progress, write_json

TOKENS = 1374
"""Of one frame of 518 x 518 px."""
SCHEME = Scheme(4, 128)
FRAMES = (1, 2, 8, 30)
MODEL = "seeded:vggt-1b"
TESTS = "tests/backends/test_gpu.py"
CUDA, INT8 = CudaBackend(), CudaInt8Backend()
_WIDTH = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default=MODEL, help="a float model; it is quantized to 4 bits")
    parser.add_argument("--frames", type=int, nargs="+", default=FRAMES)
    parser.add_argument("--size", type=int, default=518, help="of the images, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tests", action="store_true", help="run the tests that need a GPU first")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    chosen = parser.parse_args(arguments)
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA GPU that torch can use here: run this on a machine with one.", file=sys.stderr)
        return 1
    figures: dict[str, Any] = {"environment": describe_machine(chosen.device) | {"cuda": torch.version.cuda}}
    about = figures["environment"]
    print(f"{about.get('gpu', about['cpu'])}, torch {torch.__version__}, CUDA {torch.version.cuda}\n", flush=True)
    failed = run_tests() if chosen.tests else 0
    if device.type == "cuda":
        Console(width=_WIDTH).print(product_table(device, TOKENS, cuda_seconds))
        print(
            "int8, kept: weights requantized to one scale per output channel once, not in each product as in a model\n"
        )
    try:
        whole_models(chosen, figures)
    except QvggtError as error:
        print(error, file=sys.stderr)
        return 1
    return failed


def run_tests() -> int:
    """Run the tests that need a GPU; return their exit status."""
    root = Path(__file__).parents[1]
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-rs", TESTS], cwd=root, check=False).returncode


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


def whole_models(chosen: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Quantize the model, measure it and its float self, print the table, and write the rows as they come."""

    def keep(rows: list[dict[str, Any]]) -> None:
        write_json(chosen.json, figures | {"rows": rows})
        show_progress(f"{rows[-1]['way']}, {rows[-1]['frames']} frames", len(rows) / (len(WAYS) * len(chosen.frames)))

    with tempfile.TemporaryDirectory(prefix="qvggt-bench-gpu-") as folder:
        started = time.perf_counter()
        packed = str(Path(folder) / "4-bit")
        quantize_to(chosen.model, packed)
        print(f"{chosen.model} quantized to 4 bits in {time.perf_counter() - started:.0f} s\n", flush=True)
        load = Load((chosen.model, packed), chosen.device, tuple(chosen.frames), chosen.size, repeats=chosen.repeats)
        Console(width=_WIDTH).print(model_table(measure_models(load, keep)))


def model_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return seconds, speed against float32, memory and differences from float32 of every way and number of frames."""
    table = Table("model", box=None, header_style="bold", pad_edge=False)
    for title in ("frames", "s", "least", "most", "faster", "peak memory", "less", *OUTPUTS):
        table.add_column(title, justify="right")
    base = {row["frames"]: row for row in reversed(rows) if row["way"] == WAYS[0].title and "reason" not in row}
    for row in rows:
        about = row["way"], str(row["frames"])
        if "reason" in row:
            table.add_row(*about, "failed")
            print(f"{', '.join(about)} frames: {row['reason']}", file=sys.stderr)
            continue
        first = base.get(row["frames"], row)
        memory = ("", "")
        if "peak_memory_bytes" in row:
            peak = row["peak_memory_bytes"]
            memory = f"{peak / 1e9:.2f} GB", f"{first.get('peak_memory_bytes', peak) / peak:.2f}x"
        times = [f"{row[name]:.3g}" for name in ("seconds", "seconds_least", "seconds_most")]
        faster = f"{first['seconds'] / row['seconds']:.2f}x"
        differences = [f"{row['relative_differences'][name]:.4f}" for name in OUTPUTS]
        table.add_row(*about, *times, faster, *memory, *differences)
    return table


if __name__ == "__main__":
    sys.exit(main())
