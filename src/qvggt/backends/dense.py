"""Dense products, convolutions and attention in the activations' type, whatever the processor.

A CPU without instructions for a half-precision type would take it apart number by number: there the operands, which
have that type's precision, are widened, multiplied in float32, and the result is rounded to the type.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.native.processors import features, is_amd

Own = tuple[Tensor, Tensor]
"""Of each query one more score [B, heads, N] in float32, minus infinity for none, and its value [B, heads, N, C]."""

_SCORES = 1 << 22
"""Most attention scores that exist at a time where they are summed up: 16 MB of float32."""

_BFLOAT16_UNITS = ("avx512_bf16", "amx_bf16", "bf16")
_FLOAT16_UNITS = ("avx512_fp16", "amx_fp16")


def has_half_units(dtype: torch.dtype) -> bool:
    """Return whether this CPU multiplies a half-precision type in hardware, and torch makes use of it."""
    units, supported = {
        torch.bfloat16: (_BFLOAT16_UNITS, "_is_mkldnn_bf16_supported"),
        torch.float16: (_FLOAT16_UNITS, "_is_mkldnn_fp16_supported"),
    }[dtype]
    return not set(units).isdisjoint(features()) and _torch_supports(supported)


@functools.cache
def _torch_supports(question: str) -> bool:
    ask = getattr(torch.ops.mkldnn, question, None)
    return bool(ask and ask())


def is_half(dtype: torch.dtype) -> bool:
    """Return whether a type has 16 bits."""
    return dtype in (torch.bfloat16, torch.float16)


def working_dtype(x: Tensor) -> torch.dtype:
    """Return the type in which a tensor's device multiplies it."""
    return torch.float32 if x.is_cpu and is_half(x.dtype) and not has_half_units(x.dtype) else x.dtype


def linear(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply x [..., in] by a matrix [out, in] of any floating type; returns [..., out] in x's type."""
    dtype = working_dtype(x)
    wide, matrix, bias = x.to(dtype), matrix.to(x.dtype).to(dtype), None if bias is None else bias.to(dtype)
    if not torch.compiler.is_compiling() and onednn_is_faster(wide) and is_inference(wide, matrix, bias):
        return torch.ops.mkldnn._linear_pointwise(wide, matrix, bias, "none", [], "").to(x.dtype)
    return F.linear(wide, matrix, bias).to(x.dtype)


def onednn_is_faster(x: Tensor) -> bool:
    """Return whether oneDNN multiplies float32 faster than torch's usual library on this CPU.

    That is MKL, which uses no AVX-512 on other vendors' CPUs than Intel's.
    """
    return x.is_cpu and x.dtype == torch.float32 and bool(x.numel()) and _mkl_lacks_avx512()


@functools.cache
def _mkl_lacks_avx512() -> bool:
    there = torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return there and "avx512_f" in features() and is_amd()


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, own: Own | None = None) -> Tensor:
    """Compute softmax(q kᵀ / √C + bias) v by torch's kernel, in q's type; statistics of the softmax are in float32.

    ``own`` is one more score and value of each query (see ``Backend.attend``).
    """
    dtype = working_dtype(q)
    bias = None if bias is None else bias.to(dtype)
    wide = q.to(dtype), k.to(dtype), v.to(dtype)
    if own is None:
        return F.scaled_dot_product_attention(*wide, bias).to(q.dtype)
    score, value = own
    if q.is_cpu and is_inference(*wide):
        shared, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            *wide, attn_mask=None if bias is None else bias.reshape(1, -1)
        )
    else:
        shared, sums = F.scaled_dot_product_attention(*wide, bias), log_sums(*wide[:2], bias)
    share = torch.sigmoid(score - sums)[..., None]  # [B, heads, N, 1], of the own value
    return torch.lerp(shared.to(share.dtype), value.to(share.dtype), share).to(q.dtype)


def log_sums(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """Return the logarithms [B, heads, N] of the sums of exponentials in a softmax, for some queries at a time."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    keys, rows = k.to(dtype).transpose(2, 3), max(1, _SCORES // (q.shape[0] * q.shape[1] * k.shape[2]))
    parts = [(part.to(dtype) * q.shape[-1] ** -0.5) @ keys for part in q.split(rows, 2)]
    return torch.cat([(part if bias is None else part + bias).logsumexp(-1) for part in parts], 2)


def is_inference(*tensors: Tensor | None) -> bool:
    """Return whether none of the tensors takes part in autograd."""
    needs = any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return not (torch.is_grad_enabled() and needs)
