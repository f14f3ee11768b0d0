"""Depth errors after the alignments that papers use: one scale, scale and shift, or the ratio of medians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

DepthAlignment = Literal["scale", "scale_shift", "median"]

SCALE_STEPS = 10
"""Reweighting steps of the ``scale`` fit; the published protocol stops there."""

_SHIFT_STEPS = 100  # the fit of scale and shift converges in a few dozen steps
_RELATIVE_EPS = 1e-9  # residuals below this share of the mean depth get no larger weight


@dataclass(frozen=True)
class DepthErrors:
    """Errors of aligned depth.

    Attributes:
        absrel: mean |p - g| / g, at least 0; NaN if there is no true depth, infinite if a prediction is not finite.
        delta1: share of pixels with max(p / g, g / p) < 1.25, 0..1; a depth p <= 0 is wrong.
    """

    absrel: float
    delta1: float


def resize_bicubic(maps: np.ndarray, height_width: tuple[int, int]) -> np.ndarray:
    """Resize maps [S, H, W] to [S, h, w] with bicubic interpolation and no antialiasing.

    Values can overshoot at depth edges, as they do in the published protocols. Maps of that size already are
    returned as they are.
    """
    if maps.ndim != 3:
        raise ValueError(f"expected maps [S, H, W], got shape {maps.shape}")
    if maps.shape[1:] == tuple(height_width):
        return maps
    batch = torch.from_numpy(np.ascontiguousarray(maps))[:, None]
    resized = torch.nn.functional.interpolate(batch, size=tuple(height_width), mode="bicubic", align_corners=False)
    return resized[:, 0].numpy()


def fit_depth(predicted: np.ndarray, truth: np.ndarray, alignment: DepthAlignment) -> tuple[float, float]:
    """Return (scale, shift) that bring ``scale * predicted + shift`` close to ``truth``.

    Args:
        predicted: [N] finite depths in the model's unit.
        truth: [N] true depths, positive.
        alignment: ``scale`` minimizes the sum of absolute differences by ten steps of iteratively reweighted least
            squares, ``scale_shift`` does so with a shift until convergence, ``median`` is the ratio of medians. The
            shift is zero for all but ``scale_shift``.

    Raises:
        ValueError: if the shapes differ, nothing is given, or the alignment is unknown.
    """
    if predicted.shape != truth.shape or truth.ndim != 1 or not truth.size:
        raise ValueError(f"expected two arrays [N], N > 0, got shapes {predicted.shape} and {truth.shape}")
    predicted, truth = predicted.astype(np.float64), truth.astype(np.float64)
    if alignment == "median":
        middle = float(np.median(predicted))
        return (float(np.median(truth)) / middle if middle else 1.0), 0.0
    if alignment == "scale":
        return _fit_scale(predicted, truth), 0.0
    if alignment == "scale_shift":
        return _fit_scale_shift(predicted, truth)
    raise ValueError(f"expected the depth alignment 'scale', 'scale_shift' or 'median', got {alignment!r}")


def _l1_weights(residual: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return weights that make a least-squares step a step of the L1 fit: one over the residual."""
    return 1.0 / np.maximum(np.abs(residual), _RELATIVE_EPS * np.abs(truth).mean() + np.finfo(np.float64).tiny)


def _fit_scale(predicted: np.ndarray, truth: np.ndarray) -> float:
    squares, products = predicted * predicted, predicted * truth
    if not squares.any():
        return 1.0  # a prediction of zeros fits equally badly at any scale
    scale = products.sum() / squares.sum()
    for _ in range(SCALE_STEPS):
        weights = _l1_weights(scale * predicted - truth, truth)
        scale = (weights * products).sum() / (weights * squares).sum()
    return float(scale)


def _fit_scale_shift(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    weights = np.ones_like(truth)
    previous = None
    scale = shift = 0.0
    for _ in range(_SHIFT_STEPS):
        mean_p, mean_t = np.average(predicted, weights=weights), np.average(truth, weights=weights)
        centerd = predicted - mean_p
        spread = (weights * centerd * centerd).sum()
        # A constant prediction leaves the scale undetermined: zero fits the shift alone.
        flat = spread <= 1e-24 * (weights * predicted * predicted).sum()
        scale = 0.0 if flat else float((weights * centerd * (truth - mean_t)).sum() / spread)
        shift = float(mean_t - scale * mean_p)
        if previous is not None and np.allclose((scale, shift), previous, rtol=1e-9, atol=1e-12):
            break
        previous = (scale, shift)
        weights = _l1_weights(scale * predicted + shift - truth, truth)
    return scale, shift


def depth_errors(predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray, alignment: DepthAlignment) -> DepthErrors:
    """Align predicted with true depth over all pixels of the mask at once, and measure.

    Args:
        predicted: [...] depths in the model's unit, the same shape as ``truth``.
        truth: [...] depths; those that are not positive and finite are left out.
        mask: [...] bool, where the truth is known.
        alignment: see ``fit_depth``.

    Returns:
        Errors. An empty mask gives NaN for both; a prediction that is not finite inside the mask gives an infinite
        AbsRel and counts as wrong in delta1, the rest being fitted without it.

    Raises:
        ValueError: if the shapes differ.
    """
    if not predicted.shape == truth.shape == mask.shape:
        raise ValueError(f"expected equal shapes, got {predicted.shape}, {truth.shape} and mask {mask.shape}")
    known = mask & np.isfinite(truth) & (truth > 0)
    if not known.any():
        return DepthErrors(float("nan"), float("nan"))
    p, g = predicted[known].astype(np.float64), truth[known].astype(np.float64)
    finite = np.isfinite(p)
    if not finite.any():
        return DepthErrors(float("inf"), 0.0)
    scale, shift = fit_depth(p[finite], g[finite], alignment)
    aligned, g_finite = scale * p[finite] + shift, g[finite]
    absrel = float(np.mean(np.abs(aligned - g_finite) / g_finite)) if finite.all() else float("inf")
    # max(p / g, g / p) < 1.25 without dividing by p: p <= 0 is wrong.
    close = (aligned < 1.25 * g_finite) & (g_finite < 1.25 * aligned)
    return DepthErrors(absrel, float(close.sum() / g.size))


def depth_errors_per_image(
    predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray, alignment: DepthAlignment
) -> tuple[DepthErrors, ...]:
    """Align and measure every image of [S, H, W] on its own: S errors, NaN for images without true depth."""
    return tuple(depth_errors(p, g, m, alignment) for p, g, m in zip(predicted, truth, mask, strict=True))
