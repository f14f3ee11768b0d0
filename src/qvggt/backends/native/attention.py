"""Attention on 16-bit integers, in C (attention.c)."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from qvggt.backends.native.buffers import allocate
from qvggt.backends.native.jobs import Job, run

MAX_CHANNELS = 128
"""Largest head dimension for which sums fit into 32 bits."""

_LANES = 16


class Attention(Job):
    """Arguments of ``qvggt_attend``."""

    function = "qvggt_attend"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "bias", "out", "own", "own_value")),
        *((name, ctypes.c_int64 * 3) for name in ("q_step", "k_step", "v_step", "out_step", "own_value_step")),
        *((name, ctypes.c_int32) for name in ("batch", "heads", "queries", "keys", "channels", "halves")),
        ("scale", ctypes.c_float),
    )


def can_attend(q: Tensor) -> bool:
    """Return whether the kernel supports queries [B, heads, N, channels] and keys and values of their dtype."""
    channels = q.shape[-1]
    return q.dtype in (torch.float32, torch.float16) and channels % _LANES == 0 and channels <= MAX_CHANNELS


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
        q: queries [B, heads, N, channels] that ``can_attend`` accepts.
        k: keys [B, heads, M, channels].
        v: values [B, heads, M, channels].
        bias: [..., M] (M values) added to the scores of every query, or None.
        own_score: [B, heads, N] float32, of each query one more score, or None.
        own_value: [B, heads, N, channels], the values of these.

    Returns:
        [B, heads, N, channels] float32, in memory [B, N, heads, channels]; NaN where an operand is not finite.
    """
    batch, heads, queries, channels = q.shape
    keys = k.shape[2]
    out = allocate(batch, queries, heads, channels).transpose(1, 2)
    if not out.numel():
        return out
    job = Attention(
        batch=batch, heads=heads, queries=queries, keys=keys, channels=channels, halves=q.dtype == torch.float16,
        scale=channels**-0.5,
    )  # fmt: skip
    for name, tensor, length, dtype in (
        ("q", q, queries, q.dtype), ("k", k, keys, q.dtype), ("v", v, keys, q.dtype), ("out", out, queries, out.dtype),
        ("own_value", own_value, queries, q.dtype),
    ):  # fmt: skip
        job.bind_strided(name, tensor, dtype, batch, heads, length, channels)
    job.bind("bias", None if bias is None else bias.float().reshape(-1), torch.float32, keys)
    if own_score is not None:
        job.bind("own", own_score.float().contiguous(), torch.float32, batch, heads, queries)
    run(job, batch * heads * queries * keys * channels)
    return out
