"""Time one product per layer shape of VGGT-1B: float32, and the backends that multiply packed weights.

    python benchmarks/kernels.py [--tokens N] [--threads N] [--repeats N] [--shapes IN:OUT ...] [--json FILE]

A packed layer's time is that of a call in a model: what a backend makes of the weight at each call counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends import BACKENDS
from qvggt.bench.report import relative_differences
from qvggt.quant.affine import quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme
from tables import kernels_table
from timing import (
    Failed,
    common_options,
    environment,
    show_progress,
    spread,
    take_turns,
    with_speedups,
    write_json,
)

FLOAT = "float32"
SHAPES = ((1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024))
"""Inputs and outputs of a block's four linear layers."""


@dataclass(frozen=True)
class Contender:
    """A way to multiply packed weights.

    Attributes:
        backend: its name.
        bits: of the weights, in groups of 128.
        prepared: whether the weight is put into the backend's own form beforehand, and not at each call.
    """

    backend: str
    bits: int
    prepared: bool = False

    @property
    def title(self) -> str:
        """What a table calls it."""
        return f"{self.backend}, {self.bits} bits" + (", prepared" if self.prepared else "")


CONTENDERS = (
    Contender("cpu", 4),
    *(Contender("cpu-native", bits) for bits in (3, 4, 6, 8)),
    Contender("cpu-int8", 4),
    Contender("cpu-int8", 4, prepared=True),
)


@dataclass(frozen=True)
class Layer:
    """A linear layer and what it sees, from a seed.

    Attributes:
        x: [tokens, in].
        weight: [out, in].
        bias: [out].
    """

    x: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def seeded(cls, tokens: int, inputs: int, outputs: int) -> Layer:
        """Return a layer of normally distributed numbers whose outputs are about as large as its inputs."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(tokens, inputs, generator=generator)
        weight = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
        return cls(x, weight, torch.randn(outputs, generator=generator))

    def in_float32(self) -> Tensor:
        """Return [tokens, out]."""
        return F.linear(self.x, self.weight, self.bias)

    def by(self, contender: Contender) -> Callable[[], Tensor]:
        """Return the product [tokens, out] by a contender; calling it raises ``Failed`` where that cannot work."""
        backend = BACKENDS[contender.backend]
        if reason := backend.unsupported_reason(torch.device("cpu")):
            return _failing(reason)
        packed = pack(quantize(self.weight, Scheme(contender.bits)))
        kept = backend.prepare(packed, len(self.x)) if contender.prepared else None
        return lambda: backend.linear(self.x, backend.prepare(packed, len(self.x)) if kept is None else kept, self.bias)


def measure_shape(tokens: int, inputs: int, outputs: int, repeats: int) -> list[dict[str, Any]]:
    """Return a JSON-ready row for float32 and every contender on one shape."""
    layer = Layer.seeded(tokens, inputs, outputs)
    expected = {"out": layer.in_float32().numpy()}
    shape = f"{tokens} x {inputs} -> {outputs}"

    def measured(product: Callable[[], Tensor]) -> tuple[float, float]:
        started = time.perf_counter()
        out = product()
        seconds = time.perf_counter() - started
        return seconds, relative_differences({"out": out.numpy()}, expected)["out"]

    products = {FLOAT: layer.in_float32, **{each.title: layer.by(each) for each in CONTENDERS}}
    calls = {name: partial(measured, product) for name, product in products.items()}
    # The first turn warms up, and does not count.
    found, reasons = take_turns(calls, 1 + repeats, lambda name, share: show_progress(f"{shape}, {name}", share))
    rows = []
    for name in products:
        row = {"group": "products", "workload": shape, "contender": name}
        if name in found:
            seconds, differences = zip(*found[name][1:], strict=True)
            rows.append({**row, **spread(seconds), "relative_difference": differences[0]})
        else:
            rows.append({**row, "reason": reasons[name]})
    return with_speedups(rows, FLOAT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1374, help="rows of the input; a frame of 518 px has 1374")
    parser.add_argument("--shapes", type=shape_of, nargs="+", default=SHAPES, metavar="IN:OUT")
    options = common_options(parser, repeats=7).parse_args(arguments)
    if min(options.tokens, options.threads, options.repeats) < 1:
        parser.error("tokens, threads and repeats must all be at least 1")
    torch.set_num_threads(options.threads)
    about = environment(options.threads)
    with torch.inference_mode():
        shapes = [measure_shape(options.tokens, inputs, outputs, options.repeats) for inputs, outputs in options.shapes]
    values = {"environment": about, "rows": [row for rows in shapes for row in rows]}
    write_json(options.json, values)
    print(kernels_table(values))


def shape_of(text: str) -> tuple[int, int]:
    """Read ``IN:OUT``.

    Raises:
        ValueError: it is not two whole numbers of at least 1.
    """
    inputs, outputs = (int(part) for part in text.split(":"))
    if min(inputs, outputs) < 1:
        raise ValueError(f"expected IN:OUT, each at least 1, got {text!r}")
    return inputs, outputs


def _failing(reason: str) -> Callable[[], Tensor]:
    def fail() -> Tensor:
        raise Failed(reason)

    return fail


if __name__ == "__main__":
    main()
