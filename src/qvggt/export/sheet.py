"""A dark page on which places are inches from the top left corner: what all pictures for the eye are drawn on."""

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
from qvggt.types import PathLike

DPI = 120
FONT = "DejaVu Sans"
BACKGROUND, PANEL, TEXT, FAINT = "#15171c", "#1d2027", "#eef0f4", "#9aa1ad"

Place = tuple[float, float, float, float]
"""Left, top, width, height in inches."""


class Pixels(Artist):
    """A picture of as many pixels as its axes have on the page, put there as they are.

    ``imshow`` would draw the same from floats that take 19 times its memory.

    Args:
        rgba: [H, W, 4] uint8.
    """

    def __init__(self, rgba: np.ndarray) -> None:
        super().__init__()
        self.rgba = rgba
        self.set_zorder(0)

    def draw(self, renderer: RendererBase) -> None:
        """Put the picture into the lower left corner of the axes."""
        assert self.axes is not None
        context = renderer.new_gc()
        context.set_clip_rectangle(self.axes.bbox)
        renderer.draw_image(context, round(self.axes.bbox.x0), round(self.axes.bbox.y0), self.rgba[::-1])
        context.restore()


class Sheet:
    """A figure on which places are inches from the top left corner."""

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
        """Write text whose top left corner, unless ``style`` says otherwise, is at a place."""
        full: dict[str, Any] = {"color": TEXT, "va": "top", "family": FONT, **style}
        self.figure.text(left / self.width, 1 - top / self.height, self.printable(text), parse_math=False, **full)

    def printable(self, text: str, limit: int = 400) -> str:
        """Return ``text`` on one line, with boxes for what the font lacks, shortened in the middle to ``limit``."""
        line = "".join(" " if c.isspace() else c if ord(c) in self._glyphs else "\u25a1" for c in text)
        return line if len(line) <= limit else f"{line[: limit // 2 - 1]}\u2026{line[-(limit - limit // 2) :]}"

    def colour_bar(self, place: Place, colours: np.ndarray, ticks: tuple[str, str, str]) -> None:
        """Draw a bar, upright if it is higher than wide, with its ends and its middle labelled.

        Args:
            place: of the bar; the labels are to the right of an upright one, below another one.
            colours: [N, 3] uint8, the smallest value's first.
            ticks: of the smallest value, the middle one and the largest.
        """
        left, top, width, height = place
        upright = height > width
        axes = self.axes(left, top, width, height)
        axes.imshow(colours[::-1, None] if upright else colours[None], aspect="auto")
        for i, tick in enumerate(ticks):
            if upright:  # The largest on top.
                anchor = {"va": ("bottom", "center", "top")[i]}
                self.text(left + width + 0.06, top + (1 - i / 2) * height, tick, fontsize=7, color=FAINT, **anchor)
            else:
                anchor = {"ha": ("left", "center", "right")[i]}
                self.text(left + i / 2 * width, top + height + 0.05, tick, fontsize=7, color=FAINT, **anchor)

    def save(self, path: PathLike) -> None:
        """Write the page as PNG, over what was there.

        Raises:
            QvggtError: if the file cannot be written.
        """
        with new_file(path, overwrite=True) as temporary:
            self.figure.savefig(temporary, format="png", facecolor=BACKGROUND)
