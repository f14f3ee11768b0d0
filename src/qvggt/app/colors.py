"""Colors of displayed points, and the legend of the heat map."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qvggt.app.cloud import BINS, DisplayCloud
from qvggt.export.colors import confidence_color_map, difference_color_map
from qvggt.export.depth_images import DepthRange
from qvggt.postprocess.frames import frame_colors

ColorMode = Literal["photograph", "depth", "confidence", "frame", "difference"]
NO_VALUE_COLOR = (120, 120, 126)
"""Of points whose difference is not known."""


def point_colors(cloud: DisplayCloud, mode: ColorMode, heat: np.ndarray | None = None, top: float = 0.1) -> np.ndarray:
    """Return sRGB uint8 [N, 3] of a cloud.

    Args:
        cloud: of one result.
        mode: what the colors show. Depth is as in depth previews: logarithmic, warm colors near.
        heat: [S, H, W] relative differences, for ``difference``.
        top: the difference at the last color.
    """
    if mode == "depth":
        valid = cloud.depth > 0
        return DepthRange.robust(cloud.depth, valid).colors(cloud.depth, valid)
    if mode == "confidence":
        return confidence_color_map(cloud.bin / (BINS - 1))
    if mode == "frame":
        return np.rint(255 * frame_colors(int(cloud.frame.max()) + 1)).astype(np.uint8)[cloud.frame]
    if mode == "difference" and heat is not None:
        return heat_colors(heat.reshape(-1)[cloud.pixel], top)
    return cloud.colors


def heat_colors(values: np.ndarray, top: float) -> np.ndarray:
    """Return sRGB uint8 [..., 3] of differences [...]: purple for 0, yellow for ``top`` and above, gray for NaN."""
    if not top > 0:
        raise ValueError(f"expected a positive top of the color scale, got {top}")
    colors = difference_color_map(np.nan_to_num(values) / top)
    colors[np.isnan(values)] = NO_VALUE_COLOR
    return colors


def heat_legend(top: float, size_px: tuple[int, int] = (420, 64)) -> np.ndarray:
    """Return an sRGB image [H, W, 3] of the heat map's color scale from 0 to ``top``, labeled in percent of depth."""
    width, height = size_px
    margin, bar = 28, height // 3
    picture = Image.new("RGB", size_px, "white")
    ramp = heat_colors(np.linspace(0, 1, width - 2 * margin), 1.0)
    picture.paste(Image.fromarray(np.tile(ramp, (bar, 1, 1))), (margin, 6))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=18)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = margin + share * (width - 2 * margin - 1)
        draw.line((x, 6 + bar, x, 11 + bar), fill="black")
        label = f"{'> ' if share == 1 else ''}{100 * share * top:.3g} %"
        draw.text((min(x, width - margin), 13 + bar), label, fill="black", font=font, anchor="ma")
    return np.asarray(picture)
