"""Layout of the contact sheet ``overview.png``: its size is known before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_SHOWN = 8
DPI = 120
MARGIN, TITLE, HEADER, GAP, NAME = 0.35, 0.95, 0.32, 0.09, 0.24
"""Distances in inches."""
VIEW_WIDTH = 1.05
"""Width of the drawn scene, relative to its height."""
_BAR = 0.62
_MIN_VIEW_SIZE, _MIN_WIDTH = 6.6, 7.0


@dataclass(frozen=True)
class Grid:
    """Layout of the pictures in inches: a row per frame, or for one or two frames a column per frame.

    Attributes:
        frames: that are shown.
        kinds: of pictures of each frame: the image, its depth, its confidence.
        cell: width and height of a picture.
        left: edge of the first column.
        top: edge of the grid.
    """

    frames: int
    kinds: int
    cell: tuple[float, float]
    left: float = MARGIN
    top: float = 0.0

    @classmethod
    def fitting(cls, frames: int, kinds: int, image_hw: tuple[int, ...]) -> Grid:
        """Return the grid of images of a size in pixels."""
        rows = kinds if frames <= 2 else frames
        height = float(np.clip(9.0 / rows - NAME, 1.1, 2.3))
        width = min(height * image_hw[1] / image_hw[0], 3.6)
        return cls(frames, kinds, (width, width * image_hw[0] / image_hw[1]))

    @property
    def across(self) -> bool:
        """Whether each frame has a column."""
        return self.frames <= 2

    @property
    def size(self) -> tuple[float, float]:
        """Width and height with names and color bars."""
        left, top = self.place(self.frames - 1, self.kinds - 1)
        bar = (0.55, NAME) if self.across else (0.0, NAME + _BAR)
        return left - self.left + self.cell[0] + GAP + bar[0], top - self.top + self.cell[1] + bar[1]

    def place(self, frame: int, kind: int) -> tuple[float, float]:
        """Return the left and top edge of a picture."""
        column, row = (frame, kind) if self.across else (kind, frame)
        gap = NAME + 0.22 if self.across else NAME
        return self.left + column * (self.cell[0] + GAP), self.top + HEADER + row * (self.cell[1] + gap)

    def content(self, has_view: bool) -> float:
        """Return the height below the title, and of the scene if it is drawn beside the pictures."""
        return max(self.size[1], _MIN_VIEW_SIZE if has_view else 0.0)

    def page(self, has_view: bool) -> tuple[float, float]:
        """Return width and height of the page in inches."""
        content = self.content(has_view)
        width = 2 * MARGIN + self.size[0] + (content * VIEW_WIDTH + MARGIN if has_view else 0.0)
        return max(width, _MIN_WIDTH), TITLE + content + MARGIN


def shown_frames(count: int, limit: int = MAX_SHOWN) -> np.ndarray:
    """Return the indices of at most ``limit`` evenly spaced frames, including the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))


def page_pixels(frames: int, image_hw: tuple[int, int], kinds: int = 3) -> int:
    """Return how many pixels the page of a reconstruction has.

    >>> page_pixels(1, (70, 84)), page_pixels(8, (70, 84))
    (1906200, 3327780)
    """
    width, height = Grid.fitting(min(frames, MAX_SHOWN), kinds, image_hw).page(has_view=True)
    return round(width * DPI) * round(height * DPI)
