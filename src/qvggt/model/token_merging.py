"""Token merging for global attention: groups of neighboring patches attend, and are attended to, as one token.

The cost of global attention grows with the square of the number of frames. Neighboring patches have similar keys and
values, so these are averaged over square groups of patches; in images with many patches, queries are averaged as well,
over smaller groups, and every patch of a group gets the group's result. The first frame, which defines the coordinate
system, and the special tokens of every frame are never merged, nor are tokens in the first quarter of the global
blocks. No training is needed.

In an attention plan a block may be ``pooled``: its queries are not averaged, the mean of all averaged keys and values
is one more key, and a patch that is averaged attends to itself as well. ``sampled`` blocks take one patch of each group
instead of the average; it weighs as much as the group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_GROUPS_PER_SIDE = 9
"""Key groups along the longer side of an image: never fewer, unless groups of 2 x 2 patches already give fewer."""

_GOLDEN = (math.sqrt(5) - 1) / 2

_SCORES = 1 << 22
"""Most attention scores that exist at a time where each query has a key of its own: 16 MB of float32."""

_WIDENED = 1 << 12
"""Keys that are widened at a time for their mean."""


def exact_pairs(depth: int) -> int:
    """Return how many of a model's first AA pairs keep exact global attention.

    On a nano of six pairs, merging in the second alone accounted for four fifths of the accuracy that merging in all of
    them cost.
    """
    return -(-depth // 4)


@dataclass(frozen=True)
class Groups:
    """A partition of a scene's tokens into groups that are averaged.

    Attributes:
        of: [S * P] index of each token's group.
        log_count: [M] logarithm of the number of tokens in each group.
        sample: [M] index of the token that is taken for its group; None where tokens are averaged.
    """

    of: Tensor
    log_count: Tensor
    sample: Tensor | None = None

    def to(self, device: torch.device) -> Groups:
        """Return the same groups on a device."""
        return Groups(
            self.of.to(device), self.log_count.to(device), None if self.sample is None else self.sample.to(device)
        )

    def mean(self, sums: Tensor) -> Tensor:
        """Return the means [..., M, C] of groups, given the sums of their tokens, which are overwritten."""
        return sums.mul_((-self.log_count).exp()[:, None].to(sums.dtype))


@dataclass(frozen=True)
class Pooling:
    """The keys and values that ``pooled`` attention adds to the averages.

    Attributes:
        own: [S * P] added to the score of a token with its own key: 0 for an averaged one, minus infinity for any
            other, whose own key is among the keys already.
        share: [M] share of each group in the mean of all averaged tokens.
    """

    own: Tensor
    share: Tensor

    def to(self, device: torch.device) -> Pooling:
        """Return the same on a device."""
        return Pooling(self.own.to(device), self.share.to(device))

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean [B, heads, 1, C] of the averaged tokens, given the averages [B, heads, M, C]."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        parts = zip(x.split(_WIDENED, 2), self.share.to(dtype).split(_WIDENED), strict=True)
        sums = [(part.to(dtype) * share[:, None]).sum(2, keepdim=True) for part, share in parts]
        return torch.stack(sums).sum(0).to(x.dtype)


class Own(NamedTuple):
    """What each token adds to the keys and values that all tokens attend to: its own.

    Attributes:
        score: [B, heads, N] of a query with its own key, in float32; minus infinity if the key is not added.
        value: [B, heads, N, C].
    """

    score: Tensor
    value: Tensor

    @classmethod
    def of(cls, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Own:
        """Return those of tokens with queries, keys and values [B, heads, N, C], and a bias [N] of their scores."""
        dtype = torch.promote_types(q.dtype, torch.float32)
        return cls((q.to(dtype) * k.to(dtype)).sum(-1) * q.shape[-1] ** -0.5 + bias, v)

    @classmethod
    def empty(cls, like: Tensor) -> Own:
        """Return memory for those of tokens with queries [B, heads, N, C]."""
        return cls(
            torch.empty_like(like[..., 0], dtype=torch.promote_types(like.dtype, torch.float32)), torch.empty_like(like)
        )

    def part(self, at: slice) -> Own:
        """Return those of some tokens, as views."""
        return Own(self.score[:, :, at], self.value[:, :, at])

    def put(self, at: slice, part: Own) -> None:
        """Write those of some tokens."""
        self.score[:, :, at], self.value[:, :, at] = part.score, part.value


@dataclass(frozen=True)
class Merging:
    """The token groups of global attention in one scene.

    Attributes:
        keys: groups over which keys and values are averaged; None if they are not.
        queries: groups over which queries are averaged; None if they are not.
        pooling: what ``pooled`` attention adds to the keys; None if it adds nothing.
    """

    keys: Groups | None = None
    queries: Groups | None = None
    pooling: Pooling | None = None

    def to(self, device: torch.device) -> Merging:
        """Return the same merging on a device."""
        keys, queries = (groups and groups.to(device) for groups in (self.keys, self.queries))
        return Merging(keys, queries, self.pooling and self.pooling.to(device))

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """Return what is added to attention scores [..., M], so that a group of n tokens weighs as much as n tokens."""
        if self.keys is None:
            return None
        log_count = self.keys.log_count.to(dtype)[None]
        return log_count if self.pooling is None else F.pad(log_count, (0, 1))  # the mean weighs as much as one token

    def reduced(self, x: Tensor) -> Tensor:
        """Return the keys, or values, [B, heads, M, C] that all tokens attend to, of those of all tokens."""
        averages = averaged(x, self.keys)
        return averages if self.pooling is None else torch.cat((averages, self.pooling.mean(averages)), 2)


EXACT = Merging()
"""No token is merged."""


def pooled(frames: int, special: int, rows: int, columns: int, side: int, sampled: bool = False) -> Merging:
    """Return the merging of ``pooled`` or ``sampled`` attention, none in a scene of one frame; see ``patch_groups``."""
    if frames == 1:
        return EXACT
    groups = patch_groups(frames, special, rows, columns, side=side)
    if sampled:
        groups = replace(groups, sample=_samples(groups, frames, special, grid=(rows, columns), side=side))
    tokens = special + rows * columns
    of = groups.of.view(frames, tokens)[1:, special:].flatten()  # [(S-1) * patches]
    own = torch.full((frames, tokens), -math.inf, device="cpu")
    own[1:, special:] = 0.0
    return Merging(groups, None, Pooling(own.flatten(), _counts(of, len(groups.log_count)) / len(of)))


def _samples(groups: Groups, frames: int, special: int, grid: tuple[int, int], side: int) -> Tensor:
    """Return [M] the token that is taken for each of the ``patch_groups``, another patch in every frame."""
    rows, columns = grid
    row, column = torch.arange(rows, device="cpu")[:, None], torch.arange(columns, device="cpu")  # [rows, 1], [columns]
    height = (rows - row // side * side).clamp(max=side)  # of a patch's group
    width = (columns - column // side * side).clamp(max=side)
    rank = (row % side) * width + column % side  # of a patch in its group
    frame = torch.arange(1, frames, device="cpu")[:, None, None]
    chosen = (frame * _GOLDEN % 1 * (height * width)).long()  # [S-1, rows, columns], spread evenly over the frames
    others = F.pad((rank == chosen).flatten(1), (special, 0), value=True)  # [S-1, P]
    taken = torch.cat((torch.ones(special + rows * columns, dtype=torch.bool, device="cpu"), others.flatten()))
    token = torch.arange(len(taken), device="cpu")
    sample = torch.zeros(len(groups.log_count), dtype=torch.long, device="cpu")
    return sample.index_add(0, groups.of, token * taken)  # one of each group is taken, the others count as zero


def attend_with_own(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, own: Own) -> Tensor:
    """Return the attention [B, heads, N, C] of queries to M keys and values and to their own, in one softmax.

    Computed in float32, for some queries at a time. Backends compute the same faster.

    Args:
        q: [B, heads, N, C].
        k: [B, heads, M, C].
        v: [B, heads, M, C].
        bias: [..., M] of the scores, or None.
        own: of the queries' tokens.
    """
    dtype = own.score.dtype
    keys, values = k.to(dtype).transpose(2, 3), v.to(dtype)
    rows = max(1, _SCORES // (q.shape[0] * q.shape[1] * k.shape[2]))
    results = []
    for start in range(0, q.shape[2], rows):
        at = slice(start, start + rows)
        scores = (q[:, :, at].to(dtype) * q.shape[-1] ** -0.5) @ keys  # [B, heads, n, M]
        scores = scores if bias is None else scores.add_(bias)
        score = own.score[:, :, at, None]  # [B, heads, n, 1]
        most = torch.maximum(scores.amax(-1, keepdim=True), score)
        scores, weight = scores.sub_(most).exp_(), (score - most).exp()
        sums = scores @ values + weight * own.value[:, :, at].to(dtype)
        results.append((sums / (scores.sum(-1, keepdim=True) + weight)).to(q.dtype))
    return torch.cat(results, 2)


def averaged(x: Tensor, groups: Groups | None) -> Tensor:
    """Average, or sample, tokens [B, heads, N, C] by group: [B, heads, M, C]; without groups, return them unchanged."""
    if groups is None:
        return x
    if groups.sample is not None:
        return x[:, :, groups.sample]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    sums = wide.new_zeros(*x.shape[:2], len(groups.log_count), x.shape[3])  # [B, heads, M, C]
    return groups.mean(sums.index_add(2, groups.of, wide)).to(x.dtype)


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
    size = special + -(-rows // side) * across
    others = [len(first) + index * size + merged for index in range(frames - 1)]
    groups = torch.cat((first, *others))  # [S*P]
    return Groups(groups, _counts(groups, len(first) + (frames - 1) * size).log())


def _counts(groups: Tensor, number: int) -> Tensor:
    """Return how many tokens each of a number of groups has; unlike ``bincount``, of a size known to torch.compile."""
    zeros = torch.zeros(number, dtype=torch.float32, device=groups.device)
    return zeros.index_add(0, groups, torch.ones_like(groups, dtype=torch.float32))
