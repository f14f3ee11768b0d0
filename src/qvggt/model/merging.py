"""Global attention among fewer tokens: neighbouring patches of a frame stand in for one another.

The cost of global attention grows with the square of the number of frames. Patches next to one another have much the
same keys and values, so squares of them are averaged; where an image has many patches, so are queries, over smaller
squares, and all patches of one get its answer. The first frame, in whose coordinates all is told, and every frame's
special tokens stay as they are; so does the first quarter of the blocks, which find out what belongs together. Nothing
is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SQUARES = 9
"""Squares of keys along the longer side of an image that are left at least, where that allows for more than 2 x 2."""


def exact_pairs(depth: int) -> int:
    """Return how many AA pairs, out of so many, come before the first whose global attention may be merged.

    On nano the second of six alone is worth four fifths of what merging all of them costs.
    """
    return -(-depth // 4)


@dataclass(frozen=True)
class Groups:
    """Which tokens of a scene are averaged.

    Attributes:
        of: [S * P] to which group each token belongs.
        log_count: [M] logarithm of how many tokens are in each.
    """

    of: Tensor
    log_count: Tensor

    def to(self, device: torch.device) -> Groups:
        """Return the same on a device."""
        return Groups(self.of.to(device), self.log_count.to(device))


@dataclass(frozen=True)
class Merging:
    """What global attention of a scene looks at, and what asks.

    Attributes:
        keys: of keys and values; None where each stays as it is.
        queries: of queries; None where every token asks for itself.
    """

    keys: Groups | None = None
    queries: Groups | None = None

    def to(self, device: torch.device) -> Merging:
        """Return the same on a device."""
        return Merging(self.keys and self.keys.to(device), self.queries and self.queries.to(device))

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """Return what is added to the scores [.., M]: a group counts as often as it has members."""
        return None if self.keys is None else self.keys.log_count.to(dtype)[None]


EXACT = Merging()
"""Nothing is averaged."""


class Pool:
    """Tokens that come part by part, each kept, or averaged with the others of its group."""

    def __init__(
        self,
        groups: Groups | None,
        sizes: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        place: Tensor | None = None,
    ) -> None:
        """Expect tokens.

        Args:
            groups: of them, or None.
            sizes: B, heads, N and C of all of them.
            dtype: in which they are wanted.
            device: where they are.
            place: [B, heads, N, C], where they may be kept if none are averaged.
        """
        self._groups = groups
        self._dtype = dtype
        if groups is not None:
            sizes = (*sizes[:2], len(groups.log_count), sizes[3])
            self._tokens = torch.zeros(sizes, dtype=torch.promote_types(dtype, torch.float32), device=device)
        else:
            self._tokens = torch.empty(sizes, dtype=dtype, device=device) if place is None else place

    def add(self, at: slice, part: Tensor) -> None:
        """Take the tokens [B, heads, n, C] at so many of the N."""
        if self._groups is None:
            self._tokens[:, :, at] = part
        else:
            self._tokens.index_add_(2, self._groups.of[at], part.to(self._tokens.dtype))

    def tokens(self) -> Tensor:
        """Return all that came [B, heads, M or N, C]."""
        if self._groups is None:
            return self._tokens
        return self._tokens.mul_((-self._groups.log_count).exp()[:, None].to(self._tokens.dtype)).to(self._dtype)


def averaged(x: Tensor, groups: Groups | None) -> Tensor:
    """Return tokens [B, heads, N, C] as groups [B, heads, M, C], or as they are if there are none."""
    if groups is None:
        return x
    batch, heads, length, channels = x.shape
    pool = Pool(groups, (batch, heads, length, channels), x.dtype, x.device)
    pool.add(slice(None), x)
    return pool.tokens()


def merge(frames: int, special: int, rows: int, columns: int) -> Merging:
    """Return the merging of a scene.

    Squares of keys are 2 x 2, and wider where an image has many patches; squares of queries half as wide.

    Args:
        frames: S, of the scene.
        special: tokens of a frame before its patches.
        rows: of patches in a frame.
        columns: of patches in a frame.
    """
    side = max(2, max(rows, columns) // _SQUARES)
    queries = side // 2
    keys = squares(frames, special, rows, columns, side)
    return Merging(keys, squares(frames, special, rows, columns, queries) if queries > 1 else None)


def squares(frames: int, special: int, rows: int, columns: int, side: int) -> Groups:
    """Return squares of patches of so many along a side as groups; those at the lower and right edge may be smaller."""
    across = -(-columns // side)
    row, column = torch.arange(rows) // side, torch.arange(columns) // side
    square = (row[:, None] * across + column).flatten()  # [rows * columns]
    merged = torch.cat((torch.arange(special), special + square))  # [P] within a frame
    first = torch.arange(special + rows * columns)
    size = int(merged.max()) + 1
    others = [len(first) + index * size + merged for index in range(frames - 1)]
    groups = torch.cat((first, *others))
    return Groups(groups, torch.bincount(groups).float().log())
