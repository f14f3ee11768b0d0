"""Calls of the compiled products on tensors, on as many threads as torch uses."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.backends.native.library import Product, library
from qvggt.quant.packing import PackedWeight, unpack_zero_point

_WORTH_A_THREAD = 1 << 20
"""Products of numbers below which a second thread costs more than it does."""


@dataclass(frozen=True)
class Codes:
    """Activations rounded to 8 bits, row by row, and a row of zeros after the last.

    Attributes:
        codes: [rows + 1, channels] uint8, around 128.
        scale: [rows + 1] float32; NaN for a row that is not finite.
    """

    codes: Tensor
    scale: Tensor

    @property
    def rows(self) -> int:
        """Rows of activations."""
        return self.codes.shape[0] - 1


@dataclass(frozen=True)
class Window:
    """How a convolution's kernel moves over images.

    Attributes:
        height, width: of the images.
        kernel: side of the square kernel.
        stride: of it, both ways.
        padding: zeros on every side.
    """

    height: int
    width: int
    kernel: int
    stride: int
    padding: int

    @property
    def out_hw(self) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = (
            (side + 2 * self.padding - self.kernel) // self.stride + 1 for side in (self.height, self.width)
        )
        return height, width


def supports(weight: PackedWeight) -> bool:
    """Return whether a weight can be multiplied: its groups are of whole steps of four."""
    return weight.shape[1] % weight.scale.shape[1] == 0 and weight.shape[1] // weight.scale.shape[1] % 4 == 0


def round_rows(x: Tensor) -> Codes:
    """Round activations [rows, channels] float32."""
    x = x.contiguous()
    rows, channels = x.shape
    codes, scale = torch.empty(rows + 1, channels, dtype=torch.uint8), torch.empty(rows + 1)
    codes[rows], scale[rows] = 128, 1.0
    threads = _threads(x.numel())
    bounds = [rows * index // threads for index in range(threads + 1)]

    def work(index: int) -> None:
        library().qvggt_round(
            x.data_ptr(), bounds[index], bounds[index + 1], channels, codes.data_ptr(), scale.data_ptr()
        )

    _on_threads(work, threads)
    return Codes(codes, scale)


def multiply(x: Tensor | Codes, weight: PackedWeight, bias: Tensor | None, window: Window | None = None) -> Tensor:
    """Multiply activations with a packed weight.

    Args:
        x: rounded ones, or floats [rows, in] float32 as they are, which is for few rows.
        weight: any that ``supports`` says; a convolution's has its taps outermost and groups that are within a tap.
        bias: [out], or None.
        window: of a convolution, whose rows are the pixels of its images.

    Returns:
        [rows, out] float32; a convolution's rows are the pixels of its result.
    """
    rounded, values = (x, None) if isinstance(x, Codes) else (None, x.contiguous())
    inputs = x.rows if isinstance(x, Codes) else len(x)
    outputs, width = weight.shape
    rows, taps = inputs, 1
    if window is not None:
        out_height, out_width = window.out_hw
        rows, taps = inputs // (window.height * window.width) * out_height * out_width, window.kernel**2
    out = torch.empty(rows, outputs)
    zero = unpack_zero_point(weight)
    tensors = {
        "x": values,
        "codes": None if rounded is None else rounded.codes,
        "a_scale": None if rounded is None else rounded.scale,
        "packed": weight.packed.contiguous(),
        "w_scale": weight.scale.float().contiguous(),
        "w_zero": None if zero is None else zero.contiguous(),
        "bias": None if bias is None else bias.float().contiguous(),
        "out": out,
    }
    threads = _threads(rows * outputs * width)
    product = Product(
        **{name: None if tensor is None else tensor.data_ptr() for name, tensor in tensors.items()},
        row_bytes=weight.packed.shape[1] * weight.packed.element_size(),
        rows=rows, inputs=inputs, channels=width // taps, outputs=outputs, groups=weight.scale.shape[1],
        bits=weight.scheme.bits, threads=threads,
    )  # fmt: skip
    if window is not None:
        product.height, product.width, product.kernel = window.height, window.width, window.kernel
        product.stride, product.padding = window.stride, window.padding
        product.out_height, product.out_width = window.out_hw

    def work(index: int) -> None:
        if library().qvggt_multiply(ctypes.byref(product)):
            raise MemoryError("a product found no memory for its unpacked weights")

    _on_threads(work, threads)
    return out


def _threads(operations: int) -> int:
    return torch.get_num_threads() if operations >= _WORTH_A_THREAD else 1


def _on_threads(work: Callable[[int], None], threads: int) -> None:
    """Call ``work`` with every index; the last one on this thread."""
    others = [_pool(threads).submit(work, index) for index in range(threads - 1)]
    work(threads - 1)
    for other in others:
        other.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(threads - 1, 1), thread_name_prefix="qvggt-products")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
