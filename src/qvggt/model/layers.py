"""The transformer block that every part of VGGT is made of, and the 2-D rotary position embedding (RoPE)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.model.token_merging import EXACT, Merging, Own, attend_with_own, averaged

RopeTable = tuple[Tensor, Tensor]
"""Cosine and sine [N, head width] of every token's rotary angles."""


Rotate = Callable[[Tensor, nn.Module, RopeTable | None], Tensor]
"""Computes ``normalized_and_rotated``."""


class Attend(Protocol):
    """Computes attention from queries, keys and values."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, /, own: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return softmax(q kᵀ / √d + bias) v [B, heads, N, d] for M keys and values and a bias [..., M] or None.

        ``own`` is one more score [B, heads, N] and value [B, heads, N, d] of each query (see ``Own``).
        """
        ...


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, /, own: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Compute attention by torch's own kernel, or what defines it where queries have keys of their own."""
    if own is None:
        return F.scaled_dot_product_attention(q, k, v, bias)
    return attend_with_own(q, k, v, bias, own=Own(*own))


def rope_table(positions: Tensor, head_dim: int, dtype: torch.dtype) -> RopeTable:
    """Return cosine and sine [N, head_dim] of the rotary angles at positions [N, 2] (row, column).

    The first half of a head's channels is rotated by the row, the second by the column, at frequencies
    100^(-2i/h) for i = 0..h/2-1 where h = head_dim / 2.
    """
    half = head_dim // 2
    exponents = torch.arange(0, half, 2, device=positions.device, dtype=torch.float32) / half  # [h/2]
    angles = positions.float()[:, :, None] * (100.0**-exponents)  # [N, 2, h/2]
    angles = torch.cat((angles, angles), -1).flatten(1)  # [N, head_dim]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def apply_rope(x: Tensor, rope: RopeTable | None) -> Tensor:
    """Rotate queries or keys [B, heads, N, head_dim] by their tokens' rotary angles; without a table, do nothing."""
    if rope is None:
        return x
    cos, sin = rope  # [N, head_dim] each
    first, second = x.unflatten(-1, (2, 2, -1)).unbind(-2)  # [B, heads, N, 2, h/2] each
    sin_first, sin_second = sin.unflatten(-1, (2, 2, -1)).unbind(-2)  # [N, 2, h/2] each
    rotated = x * cos  # [B, heads, N, head_dim]
    halves = rotated.unflatten(-1, (2, 2, -1))  # [B, heads, N, 2, 2, h/2], a view
    halves[..., 0, :].addcmul_(second, sin_first, value=-1)
    halves[..., 1, :].addcmul_(first, sin_second)
    return rotated


def normalized_and_rotated(x: Tensor, norm: nn.Module, rope: RopeTable | None) -> Tensor:
    """Return queries or keys [B, heads, N, head_dim] after their norm and rotary embedding."""
    return apply_rope(norm(x), rope)


@dataclass(frozen=True)
class Arithmetic:
    """How a model computes attention and caches activations.

    A model starts with the default, torch's float attention. Whatever replaces its linear layers by others, such as
    quantized ones, may replace this too, by ``use_arithmetic``.

    Attributes:
        attend: computes attention.
        cache_dtype: type in which activations are cached between chunks: queries, keys and values of a long sequence,
            and feature maps of dense heads. None for the type in which they are computed.
        dtype: half-precision type in which layers compute; None for the type of the tokens between them.
        rotate: norm and rotary embedding of queries and keys.
    """

    attend: Attend = attend
    cache_dtype: torch.dtype | None = None
    dtype: torch.dtype | None = None
    rotate: Rotate = normalized_and_rotated


FLOAT_ARITHMETIC = Arithmetic()


def use_arithmetic(model: nn.Module, arithmetic: Arithmetic) -> None:
    """Set the arithmetic of every attention layer of a model, in place."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.arithmetic = arithmetic


class LayerScale(nn.Module):
    """A learned gain per channel on a residual branch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, branch: Tensor, out: Tensor | None = None) -> Tensor:
        """Return x [..., C] plus the scaled branch [..., C], written to ``out`` if given."""
        return torch.addcmul(x, branch, self.gamma, out=out)  # [..., C]


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    gelu_: Callable[[Tensor], Tensor] = torch.ops.aten.gelu_
    """GELU in place, for ``chunking``; what replaces layers may replace it too."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., C] to [..., out]."""
        hidden = F.gelu(self.fc1(x))  # [..., hidden]
        return self.fc2(hidden)  # [..., out]


class Attention(nn.Module):
    """Multi-head self-attention with a fused projection, and optionally QK-norm, RoPE and token merging."""

    arithmetic: Arithmetic

    def __init__(self, dim: int, heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // heads, eps=1e-5) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(dim // heads, eps=1e-5) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)
        self.arithmetic = FLOAT_ARITHMETIC

    def forward(self, x: Tensor, rope: RopeTable | None = None, merging: Merging = EXACT) -> Tensor:
        """Map tokens [B, N, C] to [B, N, C]; M of them are keys after merging, and M' are queries."""
        q, k, v = self.queries_keys_values(x, rope)  # [B, heads, N, C/heads] each
        own = None if merging.pooling is None else Own.of(q, k, v, merging.pooling.own)
        q = averaged(q, merging.queries)  # [B, heads, M', C/heads]
        k, v = merging.reduced(k), merging.reduced(v)  # [B, heads, M, C/heads] each
        x = self.attend(q, k, v, merging.bias(k.dtype), own=own)  # [B, M', C]
        return x if merging.queries is None else x[:, merging.queries.of]  # [B, N, C]

    def queries_keys_values(self, x: Tensor, rope: RopeTable | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values [B, heads, N, C/heads] of tokens [B, N, C]."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # [B, N, 3, heads, C/heads]
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, N, C/heads] each
        q = self.arithmetic.rotate(q, self.q_norm, rope)  # [B, heads, N, C/heads]
        k = self.arithmetic.rotate(k, self.k_norm, rope)  # [B, heads, N, C/heads]
        return q, k, v

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype | None = None,
        own: Own | None = None,
    ) -> Tensor:
        """Map queries [B, heads, N, C/heads] to [B, N, C], given M keys and values and a bias of the scores [..., M].

        The projection computes in ``dtype``, or in the queries' type if None. ``own`` adds each token's own key and
        value.
        """
        x = self.arithmetic.attend(q, k, v, bias, own=own)  # [B, heads, N, C/heads]
        x = x.transpose(1, 2).flatten(2)  # [B, N, C]
        return self.proj(x.to(dtype or q.dtype))  # [B, N, C]


class Block(nn.Module):
    """Pre-norm transformer block: attention, then an MLP of ratio 4, each scaled and added."""

    def __init__(self, dim: int, heads: int, eps: float = 1e-5, qk_norm: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, qk_norm)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, 4 * dim, dim)
        self.ls2 = LayerScale(dim)

    def forward(self, x: Tensor, rope: RopeTable | None = None, merging: Merging = EXACT) -> Tensor:
        """Map tokens [B, N, C] to [B, N, C].

        Args:
            x: tokens.
            rope: rotary table of their positions, if the block uses RoPE.
            merging: groups of tokens that attention treats as one.
        """
        x = self.ls1(x, self.attn(self.norm1(x), rope, merging))  # [B, N, C]
        return self.ls2(x, self.mlp(self.norm2(x)))  # [B, N, C]
