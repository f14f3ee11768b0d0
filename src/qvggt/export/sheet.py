"""Dark matplotlib page with positions in inches from the top left corner, shared by all plots."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from qvggt.files import new_file
from qvggt.postprocess.overview_layout import DPI
from qvggt.types import PathLike

FONT = "DejaVu Sans"
BACKGROUND, PANEL, TEXT, FAINT = "#15171c", "#1d2027", "#eef0f4", "#9aa1ad"
WARNING = "#f2b040"

Place = tuple[float, float, float, float]
"""Left, top, width, height in inches."""


class Pixels(Artist):
    """Image of exactly its axes' size in pixels, drawn without resampling.

    ``imshow`` would give the same result through floats that take 19 times the memory.

    Args:
        rgba: [H, W, 4] uint8.
    """

    def __init__(self, rgba: np.ndarray) -> None:
        super().__init__()
        self.rgba = rgba
        self.set_zorder(0)

    def draw(self, renderer: RendererBase) -> None:
        """Draw the image from the lower left corner of the axes."""
        assert self.axes is not None
        context = renderer.new_gc()
        context.set_clip_rectangle(self.axes.bbox)
        renderer.draw_image(context, round(self.axes.bbox.x0), round(self.axes.bbox.y0), self.rgba[::-1])
        context.restore()


class Sheet:
    """Figure with positions in inches from the top left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor=BACKGROUND)
        FigureCanvasAgg(self.figure)
        self._glyphs = get_font(findfont(FontProperties(family=[FONT]))).get_charmap()

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return axes without frame or ticks."""
        place = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(place)
        axes.set_axis_off()
        return axes

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Draw text with its top left corner, unless ``style`` says otherwise, at a position."""
        full: dict[str, Any] = {"color": TEXT, "va": "top", "family": FONT, **style}
        self.figure.text(left / self.width, 1 - top / self.height, self.printable(text), parse_math=False, **full)

    def printable(self, text: str, limit: int = 400) -> str:
        """Return ``text`` on one line, with boxes for missing glyphs, shortened in the middle to ``limit``."""
        line = "".join(" " if c.isspace() else c if ord(c) in self._glyphs else "\u25a1" for c in text)
        return line if len(line) <= limit else f"{line[: limit // 2 - 1]}\u2026{line[-(limit - limit // 2) :]}"

    def color_bar(self, place: Place, colors: np.ndarray, ticks: tuple[str, str, str]) -> None:
        """Draw a color bar, vertical if it is higher than wide, with labels at both ends and the middle.

        Args:
            place: of the bar; labels are right of a vertical bar, below a horizontal one.
            colors: [N, 3] uint8, from the smallest value to the largest.
            ticks: labels of the smallest, the middle and the largest value.
        """
        left, top, width, height = place
        upright = height > width
        axes = self.axes(left, top, width, height)
        axes.imshow(colors[::-1, None] if upright else colors[None], aspect="auto")
        for i, tick in enumerate(ticks):
            if upright:  # the largest on top
                anchor = {"va": ("bottom", "center", "top")[i]}
                self.text(left + width + 0.06, top + (1 - i / 2) * height, tick, fontsize=7, color=FAINT, **anchor)
            else:
                anchor = {"ha": ("left", "center", "right")[i]}
                self.text(left + i / 2 * width, top + height + 0.05, tick, fontsize=7, color=FAINT, **anchor)

    def badge(self, right: float, top: float, text: str) -> None:
        """Draw text in a box of a warning's color with its top right corner at a position."""
        box = {"boxstyle": "round,pad=0.35", "facecolor": WARNING, "edgecolor": "none"}
        self.text(right, top, text, fontsize=8.5, fontweight="bold", color=BACKGROUND, ha="right", bbox=box)

    def save(self, path: PathLike) -> None:
        """Write the page as PNG, replacing an existing file.

        Raises:
            QvggtError: if the file cannot be written.
        """
        with new_file(path, overwrite=True) as temporary:
            self.figure.savefig(temporary, format="png", facecolor=BACKGROUND)
