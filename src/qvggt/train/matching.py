"""What training asks of patch tokens beside the heads: that attention finds the same place in other pictures.

Nothing of it is in the trained model: attention scores are taken from global blocks as they are, and the sketch's
linear maps are thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt import geometry
from qvggt.data.rooms.family import RoomBatch
from qvggt.model import VGGT, VGGTConfig
from qvggt.model.layers import Attend, Attention

DEPTH_TOLERANCE = 0.05
"""How far, as a share, a point's depth may be from what the other picture shows at its place."""


@dataclass(frozen=True)
class Matches:
    """Where the point at the middle of every patch is in every frame, as shares of four neighboring patches.

    Attributes:
        patch: [B, S, P, S, 4] patches of the other frame, row by row.
        share: [B, S, P, S, 4] bilinear weights that sum to 1.
        seen: [B, S, P, S] 1 where the other frame sees the point, 0 elsewhere and for a frame with itself.
    """

    patch: Tensor
    share: Tensor
    seen: Tensor


Pairs = list[tuple[Tensor, Tensor]]
"""Queries and keys [B, heads, S*N, C] of some global blocks."""


@contextmanager
def training_attention(model: VGGT, layers: Sequence[int], device: str) -> Iterator[Pairs]:
    """Attend as is fastest in training, and keep queries and keys of the global blocks of some AA pairs, in order."""
    pairs: Pairs = []
    watched = [model.aggregator.global_blocks[layer].get_submodule("attn") for layer in layers]
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    usual = [attention.arithmetic for attention in attentions]
    for attention, arithmetic in zip(attentions, usual, strict=True):
        fastest = plain_attention if device == "cpu" else arithmetic.attend
        fastest = _keeping(pairs, fastest) if attention in watched else fastest
        attention.arithmetic = replace(arithmetic, attend=fastest)
    try:
        yield pairs
    finally:
        for attention, arithmetic in zip(attentions, usual, strict=True):
            attention.arithmetic = arithmetic


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, own: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return softmax(q kᵀ / √C) v by plain products in the type of v.

    On a CPU the fused attention has a slow backward pass, and torch's own plain one looks for rows without any key.
    """
    assert bias is None
    assert own is None
    with torch.autocast(q.device.type, enabled=False):
        scores = (q.to(v.dtype) * q.shape[-1] ** -0.5) @ k.to(v.dtype).transpose(-1, -2)
        return scores.softmax(-1) @ v


def _keeping(pairs: Pairs, usual: Attend) -> Attend:
    def attend(
        q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, own: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        pairs.append((q, k))
        return usual(q, k, v, bias, own=own)

    return attend


def center_index(size: int, patch: int, device: torch.device) -> Tensor:
    """Return the pixel in the middle of every patch along a side of ``size`` pixels."""
    return torch.arange(size // patch, device=device) * patch + patch // 2


@torch.no_grad()
def find_matches(rooms: RoomBatch, patch: int) -> Matches:
    """Project the point at the middle of every patch into every other frame."""
    height, width = rooms.depth.shape[-2:]
    rows, columns = height // patch, width // patch
    points = geometry.unproject(rooms.depth, rooms.intrinsics, rooms.cam_from_world)
    y, x = center_index(height, patch, points.device), center_index(width, patch, points.device)
    points = points[:, :, y[:, None], x].flatten(2, 3)  # [B, S, P, 3]
    scenes, frames, patches = points.shape[:3]
    lenses, cameras = rooms.intrinsics[:, None], rooms.cam_from_world[:, None]
    pixels, depth = geometry.project(points[:, :, None], lenses, cameras)  # [B, S, S', P, 2], [B, S, S', P]
    u, v = pixels.transpose(2, 3).unbind(-1)  # [B, S, P, S']
    depth = depth.transpose(2, 3)
    inside = (depth > 0) & (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    place = (
        v.nan_to_num().round().clamp(0, height - 1).long() * width + u.nan_to_num().round().clamp(0, width - 1).long()
    )
    shown = rooms.depth.flatten(2)[:, None].expand(-1, frames, -1, -1)  # [B, S, S', H*W]
    shown = shown.gather(3, place.transpose(2, 3)).transpose(2, 3)
    seen = inside & ((shown / depth.clamp(min=1e-3) - 1).abs() < DEPTH_TOLERANCE)
    seen &= ~torch.eye(frames, dtype=torch.bool, device=seen.device)[None, :, None, :]
    corner, part = [], []
    for value, count in ((v, rows), (u, columns)):
        at = ((value.nan_to_num() + 0.5) / patch - 0.5).clamp(0, count - 1)
        low = at.floor().clamp(max=max(0, count - 2))
        corner.append((low.long(), (low.long() + 1).clamp(max=count - 1)))
        part.append((1 - (at - low), at - low))
    index = torch.stack([corner[0][i] * columns + corner[1][j] for i in (0, 1) for j in (0, 1)], -1)
    share = torch.stack([part[0][i] * part[1][j] for i in (0, 1) for j in (0, 1)], -1)
    assert index.shape == (scenes, frames, patches, frames, 4)
    return Matches(index, share, seen.to(points.dtype))


def matching_loss(pairs: Pairs, matches: Matches, special: int) -> Tensor:
    """Return the mean cross-entropy between attention and truth: of a patch's attention to each frame that sees it.

    Every head of every block counts alike; attention is taken among one frame's patches at a time, so how it is
    shared out among frames and other tokens is left to the model.
    """
    frames = matches.seen.shape[1]
    total = matches.share.new_zeros(())
    for q, k in pairs:
        q, k = (t.float().unflatten(2, (frames, -1))[:, :, :, special:] for t in (q, k))  # [B, heads, S, P, C]
        scores = torch.einsum("bhspc,bhtqc->bhsptq", q, k) * q.shape[-1] ** -0.5  # [B, heads, S, P, S', P']
        said = scores.log_softmax(-1)
        index = matches.patch[:, None].expand(-1, q.shape[1], -1, -1, -1, -1)
        entropy = -(said.gather(-1, index) * matches.share[:, None]).sum(-1).mean(1)  # [B, S, P, S']
        total = total + (entropy * matches.seen).sum() / matches.seen.sum().clamp(min=1)
    return total / max(1, len(pairs))


class Sketch(nn.Module):
    """A linear map from each kept AA pair's patch tokens to the point at the middle of the patch."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        maps = [nn.Linear(2 * config.embed_dim, 3) for _ in config.dpt_layers]
        self.maps = nn.ModuleList(maps)
        for each in maps:
            nn.init.zeros_(each.weight)
            nn.init.zeros_(each.bias)

    def forward(self, tokens: Sequence[Tensor], points: Tensor) -> Tensor:
        """Return the mean distance of what tokens [B, S, P, 2C] of each pair tell from the true points [B, S, P, 3]."""
        errors = [
            (each(F.layer_norm(layer.float(), layer.shape[-1:])) - points).norm(dim=-1).mean()
            for each, layer in zip(self.maps, tokens, strict=True)
        ]
        return torch.stack(errors).mean()


@dataclass(frozen=True)
class Learner:
    """A model in training, and what learns beside it."""

    model: VGGT
    sketch: Sketch | None

    def modules(self) -> list[nn.Module]:
        """Return the model and the sketch, if there is one."""
        return [self.model] if self.sketch is None else [self.model, self.sketch]

    def trained(self) -> list[nn.Parameter]:
        """Return the parameters that learn."""
        return [each for module in self.modules() for each in module.parameters() if each.requires_grad]
