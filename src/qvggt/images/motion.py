"""Sharpness and motion of video frames, measured on small gray copies."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_BLOCK, _STRIDE = 32, 16
_LEAST_TEXTURE = 4.0
"""Least standard deviation of a block's gray levels, of 255, at which its displacement can be told."""
_LEAST_PEAK = 0.25
"""Least height of the correlation peak, 1 for equal blocks, at which a displacement is trusted."""
_LEAST_TRUSTED = 1 / 3
_JUMP = 0.1
"""Displacement, as a share of the width, that stands for a change of view too large to measure."""


def sharpness_of(gray: np.ndarray) -> float:
    """Return the variance of the Laplacian of gray levels [h, w] in 0..255; only like sizes compare."""
    return float(ndimage.laplace(gray.astype(np.float32), mode="nearest").var())


def displacement(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far the content moved between two images [h, w], as a share of their width.

    It is the mean length of the displacements of blocks, each by phase correlation, so zooming and turning count too.
    It is 0 for images without texture, and 0.1 for images whose content cannot be matched.
    """
    ours, theirs = _blocks(first), _blocks(second)
    textured = np.minimum(ours.std((1, 2)), theirs.std((1, 2))) >= _LEAST_TEXTURE
    if not textured.any():
        return 0.0
    shifts, peaks = _correlate(ours[textured], theirs[textured])
    trusted = peaks >= _LEAST_PEAK
    if trusted.mean() < _LEAST_TRUSTED:
        return _JUMP
    return float(np.linalg.norm(shifts[trusted], axis=1).mean() / first.shape[1])


def _blocks(image: np.ndarray) -> np.ndarray:
    """Return overlapping blocks [N, b, b] float32, b = 32 or the image's smaller side."""
    side = min(_BLOCK, *image.shape)
    windows = np.lib.stride_tricks.sliding_window_view(image, (side, side))[::_STRIDE, ::_STRIDE]
    return windows.reshape(-1, side, side).astype(np.float32)


def _correlate(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the displacements [N, 2] (rows, columns) in pixels and the correlation's peaks [N] of blocks [N, b, b]."""
    side = ours.shape[1]
    taper = np.hanning(side + 2)[1:-1]
    spectra = [
        np.fft.rfft2((each - each.mean((1, 2), keepdims=True)) * np.outer(taper, taper)) for each in (ours, theirs)
    ]
    cross = spectra[1] * spectra[0].conj()
    # Dividing by the root of the amplitude sharpens the peak, and raises noise less than dividing by all of it.
    size = np.abs(cross)
    correlation = np.fft.irfft2(cross / np.sqrt(size + 1e-6), s=(side, side))
    bound = np.fft.irfft2(np.sqrt(size), s=(side, side))[:, 0, 0]
    flat = correlation.reshape(len(ours), -1)
    best = flat.argmax(1)
    row, column = np.divmod(best, side)
    every = np.arange(len(ours))
    steps = []
    for axis, place in ((0, row), (1, column)):
        before, after = (
            correlation[(every, (row + d) % side, column) if axis == 0 else (every, row, (column + d) % side)]
            for d in (-1, 1)
        )
        curvature = 2 * flat[every, best] - before - after
        offset = np.where(curvature > 1e-9, (after - before) / (2 * np.maximum(curvature, 1e-9)), 0)
        steps.append((place + side // 2) % side - side // 2 + np.clip(offset, -0.5, 0.5))
    return np.stack(steps, 1), flat[every, best] / np.maximum(bound, 1e-9)
