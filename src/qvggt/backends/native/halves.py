"""Attention on bfloat16, and norm and rotary embedding of queries and keys, in C (halves.c): AVX-512 BF16 or AMX."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from qvggt.backends.native.buffers import allocate
from qvggt.backends.native.jobs import Job, run
from qvggt.backends.native.library import has_function

CHANNELS = 64
"""The head dimension that the kernels support, which is that of every block of VGGT but the camera head's."""


class HalfAttention(Job):
    """Arguments of ``qvggt_attend_bfloat16``."""

    function = "qvggt_attend_bfloat16"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "bias", "out", "own", "own_value")),
        *((name, ctypes.c_int64 * 3) for name in ("q_step", "k_step", "v_step", "out_step", "own_value_step")),
        *((name, ctypes.c_int32) for name in ("batch", "heads", "queries", "keys")),
        ("scale", ctypes.c_float),
    )


class Rotation(Job):
    """Arguments of ``qvggt_rotate_bfloat16``."""

    function = "qvggt_rotate_bfloat16"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "weight", "bias", "cos", "sin", "out")),
        ("x_step", ctypes.c_int64 * 3),
        *((name, ctypes.c_int32) for name in ("batch", "heads", "length")),
        ("eps", ctypes.c_float),
    )


def supports(x: Tensor) -> bool:
    """Return whether the kernels run here, and on queries or keys [B, heads, N, channels] of x's shape and type."""
    fits = x.is_cpu and x.dtype == torch.bfloat16 and x.shape[-1] == CHANNELS
    return fits and has_function(HalfAttention.function)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    own_score: Tensor | None = None,
    own_value: Tensor | None = None,
) -> Tensor:
    """Compute softmax(q kᵀ / √channels + bias) v.

    Args:
        q: queries [B, heads, N, CHANNELS] bfloat16.
        k: keys [B, heads, M, CHANNELS] bfloat16.
        v: values [B, heads, M, CHANNELS] bfloat16.
        bias: [..., M] (M values) added to the scores of every query, or None.
        own_score: [B, heads, N] float32, of each query one more score, or None.
        own_value: [B, heads, N, CHANNELS] bfloat16, the values of these.

    Returns:
        [B, heads, N, CHANNELS] bfloat16, in memory [B, N, heads, CHANNELS]; NaN where an operand is not finite.
    """
    batch, heads, queries, channels = q.shape
    keys = k.shape[2]
    out = allocate(batch, queries, heads, channels, dtype=torch.bfloat16).transpose(1, 2)
    if not out.numel():
        return out
    job = HalfAttention(batch=batch, heads=heads, queries=queries, keys=keys, scale=channels**-0.5)
    for name, tensor, length in (
        ("q", q, queries), ("k", k, keys), ("v", v, keys), ("out", out, queries), ("own_value", own_value, queries)
    ):  # fmt: skip
        job.bind_strided(name, tensor, torch.bfloat16, batch, heads, length, channels)
    job.bind("bias", None if bias is None else bias.float().reshape(-1), torch.float32, keys)
    if own_score is not None:
        job.bind("own", own_score.float().contiguous(), torch.float32, batch, heads, queries)
    run(job, batch * heads * queries * keys * channels)
    return out


def rotate(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Normalize queries or keys [B, heads, N, CHANNELS] bfloat16 and rotate them; returns the same shape, contiguous.

    Args:
        x: queries or keys.
        weight: [CHANNELS] of a layer norm, or None for no norm; so is ``bias``.
        bias: as ``weight``.
        eps: of the norm.
        rope: [N, CHANNELS] each, cosine and sine of every token's rotary angles.
    """
    batch, heads, length, channels = x.shape
    out = allocate(batch, heads, length, channels, dtype=torch.bfloat16)
    job = Rotation(batch=batch, heads=heads, length=length, eps=eps)
    job.bind_strided("x", x, torch.bfloat16, batch, heads, length, channels)
    for name, tensor in (("weight", weight), ("bias", bias)):
        job.bind(name, None if tensor is None else tensor.float().contiguous(), torch.float32, channels)
    for name, tensor in zip(("cos", "sin"), rope, strict=True):
        job.bind(name, tensor.float().contiguous(), torch.float32, length, channels)
    job.bind("out", out, torch.bfloat16, batch, heads, length, channels)
    run(job, x.numel() * channels)
    return out
