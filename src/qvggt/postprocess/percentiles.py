"""Percentiles of values that are read part by part, and never held together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Parts = Callable[[], Iterable[np.ndarray]]
"""Returns the values again each time, in arrays [N] without NaN, in any order."""

_HALF = 1 << 16


def percentiles(parts: Parts, percents: Sequence[float] | float, lower: bool = False) -> np.ndarray | None:
    """Return the percentiles that ``np.percentile`` returns for all parts together; None if they are empty.

    Float32 values are counted by the upper half of their bits, and those of the halves in question by the lower half.

    Args:
        parts: of float32; values of another type are concatenated.
        percents: in 0..100.
        lower: whether the lower of two neighbors is taken, rather than their weighted mean.
    """
    counts = _counts(parts)
    if counts is None:
        values = np.concatenate(list(parts()))
        return np.percentile(values, percents, method="lower" if lower else "linear") if len(values) else None
    total = int(counts.sum())
    if not total:
        return None
    place = np.asarray((total - 1) * np.true_divide(percents, 100))
    first = np.floor(place).astype(np.int64)
    below, above = _with_ranks(parts, counts, np.stack((first, np.minimum(first + 1, total - 1))))
    if lower:
        return below
    share: Any = place - first
    share = share if share.ndim else float(share)  # as numpy has it: one percentile is computed in float32
    step = above - below
    return np.where(share >= 0.5, above - step * (1 - share), below + step * share)


def _counts(parts: Parts) -> np.ndarray | None:
    """Return how many values have each upper half of their bits; None if a value is not float32."""
    counts = np.zeros(_HALF, np.int64)
    for part in parts():
        if part.dtype != np.float32:
            return None
        counts += np.bincount(_ordered(part) >> 16, minlength=_HALF)
    return counts


def _with_ranks(parts: Parts, counts: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return the values of ranks [...] from 0 on, given how many values have each upper half of their bits."""
    ends = np.cumsum(counts)
    uppers = np.searchsorted(ends, ranks, side="right")
    fine = {int(upper): np.zeros(_HALF, np.int64) for upper in uppers.flat}
    for part in parts():
        keys = _ordered(part)
        for upper, found in fine.items():
            found += np.bincount(keys[keys >> 16 == upper] & (_HALF - 1), minlength=_HALF)
    keys = np.empty(ranks.shape, np.uint32)
    for index, upper in np.ndenumerate(uppers):
        within = ranks[index] - (ends[upper] - counts[upper])
        keys[index] = (int(upper) << 16) | int(np.searchsorted(np.cumsum(fine[int(upper)]), within, side="right"))
    return np.where(keys >> 31, keys ^ np.uint32(1 << 31), ~keys).view(np.float32)


def _ordered(values: np.ndarray) -> np.ndarray:
    """Return uint32 numbers in the order of float32 values."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
