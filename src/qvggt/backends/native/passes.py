"""GELU, layer norm and scaled residuals between float32 tokens and bfloat16 layers, in C (passes.c): AVX-512 BF16."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from qvggt.backends.native.buffers import allocate
from qvggt.backends.native.jobs import Job, run
from qvggt.backends.native.library import has_function

_STEP = 16
"""Channels come in multiples of this."""
_COST = 32
"""Multiplications that take as long as what is done with a number."""


class Gelu(Job):
    """Arguments of ``qvggt_gelu_bfloat16``."""

    function = "qvggt_gelu_bfloat16"
    _fields_ = (("x", ctypes.c_void_p), ("size", ctypes.c_int64))


class ScaledSum(Job):
    """Arguments of ``qvggt_add_scaled_bfloat16``."""

    function = "qvggt_add_scaled_bfloat16"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "branch", "gain", "out")),
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int32),
    )


class Norm(Job):
    """Arguments of ``qvggt_normalize_bfloat16``."""

    function = "qvggt_normalize_bfloat16"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "weight", "bias", "out")),
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int32),
        ("eps", ctypes.c_float),
    )


def supports(x: Tensor, dtype: torch.dtype) -> bool:
    """Return whether the kernels run here, and on numbers [..., channels] of this type that lie as x does."""
    fits = x.is_cpu and x.dtype == dtype and x.shape[-1] % _STEP == 0 and x.is_contiguous()
    return fits and has_function(Gelu.function)


def gelu_(x: Tensor) -> None:
    """Replace x [..., channels] bfloat16 by its exact GELU."""
    job = Gelu(size=x.numel())
    job.bind("x", x, torch.bfloat16, *x.shape)
    run(job, x.numel() * _COST)


def add_scaled(x: Tensor, branch: Tensor, gain: Tensor, out: Tensor) -> None:
    """Write x + branch · gain to out, which may be x.

    Args:
        x: [..., channels] float32.
        branch: of x's shape, bfloat16.
        gain: [channels].
        out: of x's shape, float32.
    """
    channels = x.shape[-1]
    job = ScaledSum(rows=x.numel() // channels, channels=channels)
    for name, tensor, dtype in (
        ("x", x, torch.float32),
        ("branch", branch, torch.bfloat16),
        ("out", out, torch.float32),
    ):
        job.bind(name, tensor, dtype, *x.shape)
    job.bind("gain", gain.float().contiguous(), torch.float32, channels)
    run(job, x.numel() * _COST)


def normalize(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return the layer norm, with weight and bias [channels], of x [..., channels] float32 as bfloat16."""
    channels = x.shape[-1]
    out = allocate(*x.shape, dtype=torch.bfloat16)
    job = Norm(rows=x.numel() // channels, channels=channels, eps=eps)
    job.bind("x", x, torch.float32, *x.shape)
    for name, tensor in (("weight", weight), ("bias", bias)):
        job.bind(name, tensor.float().contiguous(), torch.float32, channels)
    job.bind("out", out, torch.bfloat16, *x.shape)
    run(job, x.numel() * _COST)
    return out
