"""The transformer block that every part of VGGT is made of, and the 2-D rotary embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.model.merging import Merging

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine [N, head width] of every token's rotary angles."""


CHUNK_TOKENS = 1 << 13
"""Tokens that pass through an MLP, or frames' tokens through attention, at a time: what is in between is wide."""


class LayerScale(nn.Module):
    """A learned gain per channel on a residual branch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Return x [..., C] plus the scaled branch."""
        return torch.addcmul(x, branch, self.gamma)


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

    def forward(self, x: Tensor, rotation: Rotation | None = None, merging: Merging | None = None) -> Tensor:
        """Attend from the N tokens of x [B, N, C] to all of them, or to merged ones."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # [B, N, 3, heads, C/heads]
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, N, C/heads]
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if merging is None:
            out = F.scaled_dot_product_attention(q, k, v)  # [B, heads, N, C/heads]
        else:
            k, v = merging.mean(k), merging.mean(v)  # [B, heads, M, C/heads]
            out = F.scaled_dot_product_attention(q, k, v, merging.bias(q.dtype))  # [B, heads, N, C/heads]
        return self.proj(out.transpose(1, 2).flatten(2))


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

    def forward(self, x: Tensor, rotation: Rotation | None = None, merging: Merging | None = None) -> Tensor:
        """Map tokens [B, N, C] to [B, N, C]."""
        many = x.numel() > CHUNK_TOKENS * x.shape[-1] and torch.is_inference_mode_enabled()
        if not many:  # calibration, which looks at what layers see, wants to see it whole
            x = self.ls1(x, self.attn(self.norm1(x), rotation, merging))
            return self.ls2(x, self.mlp(self.norm2(x)))
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        frames = max(1, CHUNK_TOKENS // x.shape[1])
        for part, to in zip(x.split(frames), out.split(frames), strict=True):
            to.copy_(self.ls1(part, self.attn(self.norm1(part), rotation, merging)))
        for part in out.view(-1, x.shape[2]).split(CHUNK_TOKENS):
            part.copy_(self.ls2(part, self.mlp(self.norm2(part))))
        return out


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


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn queries or keys [B, heads, N, head_dim] by their tokens' rotary angles."""
    cos, sin = rotation
    first, second = x.unflatten(-1, (2, 2, -1)).unbind(-2)  # [B, heads, N, 2, h/2] each
    sin_first, sin_second = sin.unflatten(-1, (2, 2, -1)).unbind(-2)
    turned = x * cos
    halves = turned.unflatten(-1, (2, 2, -1))
    halves[..., 0, :].addcmul_(second, sin_first, value=-1)
    halves[..., 1, :].addcmul_(first, sin_second)
    return turned
