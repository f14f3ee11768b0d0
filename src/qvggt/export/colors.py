"""Color scales of confidence and of differences, for the page, the viewer and turntables alike."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import colormaps

_DARKEST = 0.12
"""Where the scale of differences begins, so that a difference of 0 is not black."""

_HEAT_PERCENT, _LEAST_HEAT = 95, 1e-5
"""Percentile of the differences at which their scale ends, rounded up, and the least such end."""


def confidence_color_map(position: np.ndarray) -> np.ndarray:
    """Return sRGB uint8 [..., 3] for positions [...] in 0 (least confident) .. 1, clipped to that range."""
    return colormaps["cividis"](np.clip(position, 0, 1), bytes=True)[..., :3]


def difference_color_map(position: np.ndarray) -> np.ndarray:
    """Return sRGB uint8 [..., 3] for positions [...] in 0 (no difference) .. 1, clipped: purple, red, yellow."""
    return colormaps["inferno"](_DARKEST + (1 - _DARKEST) * np.clip(position, 0, 1), bytes=True)[..., :3]


def heat_limit(differences: np.ndarray) -> float:
    """Return the end of a readable scale of differences [N]: their 95th percentile, rounded up."""
    return rounded_up(max(float(np.nanpercentile(differences, _HEAT_PERCENT)), _LEAST_HEAT))


def rounded_up(value: float) -> float:
    """Return the next number of the form 1, 2, 5 x 10^k.

    >>> rounded_up(0.013), rounded_up(0.05), rounded_up(7)
    (0.02, 0.05, 10.0)
    """
    power = math.floor(math.log10(value))
    steps = [float(f"{digit}e{k}") for k in (power, power + 1) for digit in (1, 2, 5)]
    return next(step for step in steps if step >= value * (1 - 1e-9))
