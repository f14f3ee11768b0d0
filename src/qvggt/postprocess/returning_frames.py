"""Returning frames: which frames of a window look like those of a much earlier one, judged by small copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_CELLS = 8
"""Rows and columns of the small copies."""
_ALIKE = 0.9
"""Share of the highest similarity at which an earlier window is preferred: a longer loop removes more drift."""


@dataclass(frozen=True)
class Return:
    """Frames of two windows that look alike.

    Attributes:
        first: index of the earlier window.
        second: index of the later one.
        first_frames: consecutive frames of the earlier window.
        second_frames: as many of the later one.
    """

    first: int
    second: int
    first_frames: range
    second_frames: range


def appearance(images: np.ndarray) -> np.ndarray:
    """Return unit vectors [S, D] float32 of images [S, 3, H, W]: their scalar products tell how alike images are.

    They are the mean colors in a grid of cells, less the mean of all, so that brightness and contrast do not count.
    """
    starts = (np.linspace(0, size, min(size, _CELLS), endpoint=False) for size in images.shape[2:])
    rows, columns = (each.astype(int) for each in starts)
    sums = np.add.reduceat(np.add.reduceat(images, rows, axis=2), columns, axis=3)  # [S, 3, cells, cells]
    heights, widths = np.diff(rows, append=images.shape[2]), np.diff(columns, append=images.shape[3])
    vectors = (sums / np.outer(heights, widths)).reshape(len(images), -1)
    vectors -= vectors.mean(1, keepdims=True)
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def find_return(vectors: np.ndarray, windows: Sequence[range], index: int, frames: int) -> Return | None:
    """Return frames of a window and of the earliest one that looks like it, or None if there is no such window.

    Args:
        vectors: ``appearance`` [S, D] of all frames up to the end of the window.
        windows: frames of each.
        index: of the later window. Its neighbor, and windows that share frames with it, do not count.
        frames: how many to return of each window, those around the two that are most alike.
    """
    later = windows[index]
    earlier = [window for window in windows[: max(index - 1, 0)] if window.stop <= later.start]
    if not earlier:
        return None
    alike = vectors[: earlier[-1].stop] @ vectors[later.start : later.stop].T
    best = np.array([alike[window.start : window.stop].max() for window in earlier])
    first = int(np.argmax(best >= _ALIKE * best.max()))
    if best[first] <= 0:
        return None
    part = alike[earlier[first].start : earlier[first].stop]
    row, column = np.unravel_index(np.argmax(part), part.shape)
    return Return(first, index, _around(earlier[first], int(row), frames), _around(later, int(column), frames))


def _around(window: range, place: int, frames: int) -> range:
    """Return some consecutive frames of a window, with the one at a place near their middle."""
    start = min(max(place - frames // 2, 0), max(len(window) - frames, 0))
    return window[start : start + frames]
