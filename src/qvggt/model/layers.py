"""The transformer block that every part of VGGT is made of, and the 2-D rotary embedding."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.model.merging import EXACT, Merging, Pool, averaged

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine [N, head width] of every token's rotary angles."""

Product = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""What computes softmax(q kᵀ / √C + bias) v for [B, heads, N or M, C] each and a bias [..., M]."""

CHUNK_TOKENS = 3 << 9
"""Tokens that pass through a block's layers at a time, where nobody says otherwise: what is in between is wide. On a
CPU more are no faster, once a weight is multiplied by a thousand tokens."""

_DEVICE_CHUNK_TOKENS = 1 << 12
"""The same elsewhere: many cores want much to do at a time."""


def usual_chunk(device: torch.device) -> int:
    """Return how many tokens pass through a block's layers at a time on a device, where nobody says otherwise."""
    return CHUNK_TOKENS if device.type == "cpu" else _DEVICE_CHUNK_TOKENS


class LayerScale(nn.Module):
    """A learned gain per channel on a residual branch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, branch: Tensor, out: Tensor | None = None) -> Tensor:
        """Return x [..., C] plus the scaled branch, written to ``out`` if it is given."""
        return torch.addcmul(x, branch, self.gamma, out=out)


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., C] to [..., out]."""
        hidden = self.fc1(x)
        # In place where nobody asks for gradients: it is the widest tensor of a block.
        hidden = torch.ops.aten.gelu_(hidden) if torch.is_inference_mode_enabled() else F.gelu(hidden)
        return self.fc2(hidden)


class Attention(nn.Module):
    """Multi-head self-attention with a fused projection; QK-norm and rotary positions where they are asked for."""

    def __init__(self, dim: int, heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // heads, eps=1e-5) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(dim // heads, eps=1e-5) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)
        self.product: Product = F.scaled_dot_product_attention
        self.held_dtype: torch.dtype | None = None  # of a long sequence's queries, keys and values; None: x's own

    def forward(self, x: Tensor, rotation: Rotation | None = None, merging: Merging = EXACT) -> Tensor:
        """Attend from the N tokens of x [B, N, C] to all of them, or to merged ones."""
        q, k, v = self.queries_keys_values(x, rotation)
        q, k, v = averaged(q, merging.queries), averaged(k, merging.keys), averaged(v, merging.keys)
        answers = self.attend(q, k, v, merging.bias(k.dtype))
        return answers if merging.queries is None else answers[:, merging.queries.of]

    def queries_keys_values(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return each [B, heads, N, C/heads] of tokens [B, N, C]."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # [B, N, 3, heads, C/heads]
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q = rotate(self.q_norm(q), rotation)
        return q, rotate(self.k_norm(k), rotation), v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dtype: torch.dtype | None = None) -> Tensor:
        """Return [B, N, C] for queries [B, heads, N, C/heads] among M keys and values, whose scores get the bias."""
        out = self.product(q, k, v, bias)  # [B, heads, N, C/heads]
        return self.proj(out.transpose(1, 2).flatten(2).to(dtype or q.dtype))


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP of ratio 4, each scaled and added."""

    def __init__(self, dim: int, heads: int, eps: float = 1e-5, qk_norm: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, qk_norm)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, 4 * dim, dim)
        self.ls2 = LayerScale(dim)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        merging: Merging = EXACT,
        chunk_tokens: int = CHUNK_TOKENS,
        in_place: bool = False,
    ) -> Tensor:
        """Map tokens [B, N, C] to [B, N, C].

        Args:
            x: tokens.
            rotation: their positions.
            merging: which of them are averaged for attention.
            chunk_tokens: tokens that pass through the layers at a time, at least 1.
            in_place: whether x is no longer needed: the result may then take its place.
        """
        many = x.numel() > chunk_tokens * x.shape[-1] and torch.is_inference_mode_enabled()
        if not many:  # calibration, which looks at what layers see, wants to see it whole
            x = self.ls1(x, self.attn(self.norm1(x), rotation, merging))
            return self.ls2(x, self.mlp(self.norm2(x)))
        out = x if in_place and x.is_contiguous() else torch.empty_like(x, memory_format=torch.contiguous_format)
        at_a_time = max(1, chunk_tokens // x.shape[1])
        for part, to in zip(x.split(at_a_time), out.split(at_a_time), strict=True):
            if part.shape[1] > chunk_tokens:
                self._attend_in_chunks(part, to, rotation, merging, _even(part.shape[1], chunk_tokens))
            else:
                self.ls1(part, self.attn(self.norm1(part), rotation, merging), to)
        flat = out.view(-1, x.shape[2])
        for part in flat.split(_even(len(flat), chunk_tokens)):
            self.ls2(part, self.mlp(self.norm2(part)), part)
        return out

    def _attend_in_chunks(
        self, x: Tensor, out: Tensor, rotation: Rotation | None, merging: Merging, chunk_tokens: int
    ) -> None:
        """Write what attention makes of long sequences [B, N, C] to ``out``, which may be x."""
        chunks = [slice(start, start + chunk_tokens) for start in range(0, x.shape[1], chunk_tokens)]
        queries, keys, values = self._pooled(x, out, rotation, merging, chunks)
        bias = merging.bias(keys.dtype)
        parts = queries.split(chunk_tokens, 2)
        answers = (self.attn.attend(part, keys, values, bias, x.dtype) for part in parts)
        if merging.queries is not None:
            whole = torch.cat(list(answers), 1)  # [B, M, C]
            answers = (whole[:, merging.queries.of[chunk]] for chunk in chunks)
        for chunk, answer in zip(chunks, answers, strict=True):
            self.ls1(x[:, chunk], answer, out[:, chunk])

    def _pooled(
        self, x: Tensor, out: Tensor, rotation: Rotation | None, merging: Merging, chunks: list[slice]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of all chunks of x [B, N, C]; what a chunk needs besides ends here."""
        batch, length, dim = x.shape
        heads = self.attn.heads
        held = self.attn.held_dtype or x.dtype
        sizes = batch, heads, length, dim // heads
        # Where the result does not go into x, its place holds the queries until they are answered.
        beside = out.data_ptr() != x.data_ptr() and held == x.dtype
        place = out.view(batch, length, heads, -1).transpose(1, 2) if beside else None
        queries = Pool(merging.queries, sizes, held, x.device, place)
        keys, values = (Pool(merging.keys, sizes, held, x.device) for _ in range(2))
        for chunk in chunks:
            turns = None if rotation is None else (rotation[0][chunk], rotation[1][chunk])
            parts = self.attn.queries_keys_values(self.norm1(x[:, chunk]), turns)
            for pool, part in zip((queries, keys, values), parts, strict=True):
                pool.add(chunk, part)
        return queries.tokens(), keys.tokens(), values.tokens()


def _even(total: int, most: int) -> int:
    """Return the size of chunks of at most so many that are as few as can be and of much the same size."""
    return -(-total // -(-total // most))


def rotary_table(positions: Tensor, head_dim: int, dtype: torch.dtype) -> Rotation:
    """Return the rotary angles' cosine and sine [N, head_dim] of positions [N, 2] (row, column).

    The first half of a head's channels turns with the row, the second with the column, at frequencies
    100^(-2i/h) for i = 0..h/2-1 where h = head_dim / 2.
    """
    half = head_dim // 2
    exponents = torch.arange(0, half, 2, device=positions.device, dtype=torch.float32) / half
    angles = positions.float()[:, :, None] * (100.0**-exponents)  # [N, 2, h/2]
    angles = torch.cat((angles, angles), -1).flatten(1)  # [N, head_dim]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rotation: Rotation | None) -> Tensor:
    """Turn queries or keys [B, heads, N, head_dim] by their tokens' rotary angles, if any."""
    if rotation is None:
        return x
    cos, sin = rotation
    first, second = x.unflatten(-1, (2, 2, -1)).unbind(-2)  # [B, heads, N, 2, h/2] each
    sin_first, sin_second = sin.unflatten(-1, (2, 2, -1)).unbind(-2)
    turned = x * cos
    halves = turned.unflatten(-1, (2, 2, -1))
    halves[..., 0, :].addcmul_(second, sin_first, value=-1)
    halves[..., 1, :].addcmul_(first, sin_second)
    return turned
