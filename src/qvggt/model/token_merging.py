"""Token merging for global attention: groups of neighboring patches attend, and are attended to, as one token.

The cost of global attention grows with the square of the number of frames. Neighboring patches have similar keys and
values, so these are averaged over square groups of patches; in images with many patches, queries are averaged as well,
over smaller groups, and every patch of a group gets the group's result. The first frame, which defines the coordinate
system, and the special tokens of every frame are never merged, nor are tokens in the first quarter of the global
blocks. No training is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_GROUPS_PER_SIDE = 9
"""Key groups along the longer side of an image: never fewer, unless groups of 2 x 2 patches already give fewer."""


def exact_pairs(depth: int) -> int:
    """Return how many of a model's first AA pairs keep exact global attention.

    On nano, merging in the second of six pairs alone accounts for four fifths of the accuracy that merging in all of
    them costs.
    """
    return -(-depth // 4)


@dataclass(frozen=True)
class Groups:
    """A partition of a scene's tokens into groups that are averaged.

    Attributes:
        of: [S * P] index of each token's group.
        log_count: [M] logarithm of the number of tokens in each group.
    """

    of: Tensor
    log_count: Tensor

    def to(self, device: torch.device) -> Groups:
        """Return the same groups on a device."""
        return Groups(self.of.to(device), self.log_count.to(device))


@dataclass(frozen=True)
class Merging:
    """The token groups of global attention in one scene.

    Attributes:
        keys: groups over which keys and values are averaged; None if they are not.
        queries: groups over which queries are averaged; None if they are not.
    """

    keys: Groups | None = None
    queries: Groups | None = None

    def to(self, device: torch.device) -> Merging:
        """Return the same merging on a device."""
        return Merging(self.keys and self.keys.to(device), self.queries and self.queries.to(device))

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """Return what is added to attention scores [..., M], so that a group of n tokens weighs as much as n tokens."""
        return None if self.keys is None else self.keys.log_count.to(dtype)[None]


EXACT = Merging()
"""No token is merged."""


def averaged(x: Tensor, groups: Groups | None) -> Tensor:
    """Average tokens [B, heads, N, C] over groups: [B, heads, M, C]; without groups, return them unchanged."""
    if groups is None:
        return x
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    sums = wide.new_zeros(*x.shape[:2], len(groups.log_count), x.shape[3])  # [B, heads, M, C]
    sums = sums.index_add(2, groups.of, wide)
    return (sums * (-groups.log_count).exp()[:, None].to(sums.dtype)).to(x.dtype)


def merging_for(frames: int, special: int, rows: int, columns: int) -> Merging:
    """Return the merging of a scene.

    Keys and values are grouped by 2 x 2 patches, or more in images with many patches; query groups are half as wide.

    Args:
        frames: S, of the scene.
        special: special tokens of a frame, which precede its patches.
        rows: of patches in a frame.
        columns: of patches in a frame.
    """
    side = max(2, max(rows, columns) // _GROUPS_PER_SIDE)
    queries = side // 2
    keys = patch_groups(frames, special, rows, columns, side=side)
    return Merging(keys, patch_groups(frames, special, rows, columns, side=queries) if queries > 1 else None)


def patch_groups(frames: int, special: int, rows: int, columns: int, side: int) -> Groups:
    """Group the patches of all frames but the first by ``side`` x ``side``; every other token is a group of its own.

    Groups at the lower and right edge may be smaller.
    """
    across = -(-columns // side)
    row, column = (torch.arange(n, device="cpu") // side for n in (rows, columns))
    patch_group = (row[:, None] * across + column).flatten()  # [rows * columns]
    merged = torch.cat((torch.arange(special, device="cpu"), special + patch_group))  # [P], group of a frame's tokens
    first = torch.arange(special + rows * columns, device="cpu")  # [P]
    size = int(merged.max()) + 1
    others = [len(first) + index * size + merged for index in range(frames - 1)]
    groups = torch.cat((first, *others))  # [S*P]
    return Groups(groups, torch.bincount(groups).float().log())
