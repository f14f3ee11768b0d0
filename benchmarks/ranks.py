"""Spearman's rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr


def rank_correlation(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> float:
    """Return the rank correlation of two lists of numbers, -1..1."""
    return float(spearmanr(one, other)[0])
