"""Global attention among fewer tokens: neighbouring patches of a frame stand in for one another.

The cost of global attention grows with the square of the number of frames. Patches next to one another have much the
same keys and values, so squares of them are averaged; every token still asks for itself. The first frame, in whose
coordinates all is told, and every frame's special tokens stay as they are; so does the first third of the blocks, which
find out what belongs together. Nothing is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

GlobalAttention = Literal["exact", "merged"]
"""Whether global attention looks at every token, or at squares of patches as one."""

SIDE = 2
"""Patches along the side of a square that is merged."""


def exact_pairs(depth: int) -> int:
    """Return how many AA pairs, out of so many, come before the first whose global attention may be merged.

    On nano the second of six alone is worth four fifths of what merging all of them costs.
    """
    return -(-depth // 3)


@dataclass(frozen=True)
class Merging:
    """Which tokens of a scene are merged.

    Attributes:
        groups: [S * P] to which merged token each token belongs.
        log_count: [M] logarithm of how many tokens are in each.
    """

    groups: Tensor
    log_count: Tensor

    def to(self, device: torch.device) -> Merging:
        """Return the same on a device."""
        return Merging(self.groups.to(device), self.log_count.to(device))

    def mean(self, x: Tensor) -> Tensor:
        """Average tokens [B, heads, S * P, C] to merged ones [B, heads, M, C]."""
        total = x.new_zeros(*x.shape[:2], len(self.log_count), x.shape[3]).index_add_(2, self.groups, x)
        return total * (-self.log_count).exp().to(x.dtype)[:, None]

    def bias(self, dtype: torch.dtype) -> Tensor:
        """Return what is added to the scores [.., M]: a merged token counts as often as it has members."""
        return self.log_count.to(dtype)[None]


def merge_patches(frames: int, special: int, rows: int, columns: int, side: int = SIDE) -> Merging:
    """Return the merging of a scene.

    Args:
        frames: S, of the scene.
        special: tokens of a frame before its patches.
        rows: of patches in a frame.
        columns: of patches in a frame.
        side: of the squares; those at the lower and right edge may be smaller.
    """
    across = -(-columns // side)
    row, column = torch.arange(rows) // side, torch.arange(columns) // side
    square = (row[:, None] * across + column).flatten()  # [rows * columns]
    merged = torch.cat((torch.arange(special), special + square))  # [P] within a frame
    first = torch.arange(special + rows * columns)
    size = int(merged.max()) + 1
    others = [len(first) + index * size + merged for index in range(frames - 1)]
    groups = torch.cat((first, *others))
    return Merging(groups, torch.bincount(groups).float().log())
