"""Percentile bootstrap over scenes for means that pool inside groups."""

from __future__ import annotations

import numpy as np


def resample_counts(scenes: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each scene is drawn, [resamples, scenes] float64: every row sums to ``scenes``.

    Raises:
        ValueError: if either number is below one.
    """
    if scenes < 1 or resamples < 1:
        raise ValueError(f"expected at least one scene and one resample, got {scenes} and {resamples}")
    drawn = np.random.default_rng(seed).integers(scenes, size=(resamples, scenes))
    rows = np.arange(resamples)[:, None] * scenes
    return np.bincount((drawn + rows).ravel(), minlength=resamples * scenes).reshape(resamples, scenes).astype(float)


def grouped_mean(counts: np.ndarray, sums: np.ndarray, weights: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return, for each resample, the mean over groups of each group's pooled mean.

    A group that a resample does not hold is left out of that resample's average.

    Args:
        counts: [B, N] how often each of N scenes is drawn.
        sums: [N] sum of the metric over a scene's items; may be infinite.
        weights: [N] number of items, 0 for a scene without any.
        groups: [N] integer group of each scene, 0..G-1.

    Returns:
        [B] means: NaN where nothing was drawn, infinite where an infinite sum was.
    """
    infinite = ~np.isfinite(sums)
    member = groups[:, None] == np.arange(groups.max() + 1)  # [N, G]
    pooled = counts @ (np.where(infinite, 0.0, sums)[:, None] * member)  # [B, G]
    weight = counts @ (weights[:, None] * member)
    present = weight > 0
    means = np.divide(pooled, weight, out=np.zeros_like(pooled), where=present)
    with np.errstate(invalid="ignore"):
        mean = means.sum(1) / present.sum(1)
    return np.where(counts @ infinite > 0, np.inf, mean)


def percentile_interval(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval of replicates [B] at a level in 0..1; NaN replicates are left out.

    Bounds are replicates themselves, never between two of them, so that infinite ones do no harm.
    """
    defined = replicates[~np.isnan(replicates)]
    if not defined.size:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)
