"""Decoded video frames to upright RGB images: color matrix and range, HDR, pixel aspect and display matrix."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from qvggt.images.color import CodingPoints, coded_to_srgb

_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
"""Names in FFmpeg's scale filter of the matrix coefficients of ITU-T H.273."""
_GBR = 0
_FULL_RANGE = 2
_HD_ROWS = 720
"""Unmarked video of at least this height is BT.709, of less BT.601, as players assume."""


class FrameConverter:
    """Turns the frames of one video stream into upright 8-bit sRGB images of square pixels.

    A filter graph is used because it takes matrix and range explicitly; the conversion of the frame itself ignores
    either in some versions of PyAV.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._steps: Any = None
        self._made_for: tuple[Any, ...] = ()

    def coding_points(self, frame: Any) -> CodingPoints:
        """Return the primaries and the transfer function of a frame, of its stream if the frame has none."""
        context = self._stream.codec_context
        primaries = getattr(frame, "color_primaries", 0) or context.color_primaries
        transfer = getattr(frame, "color_trc", 0) or context.color_trc
        return CodingPoints(int(primaries), int(transfer))

    def image(self, frame: Any) -> Image.Image:
        """Return a frame as an upright RGB image."""
        points = self.coding_points(frame)
        converted = self._converted(frame, "rgb48le" if points.needs_conversion else "rgb24")
        pixels = converted.to_ndarray()  # [H, W, 3]
        if points.needs_conversion:
            pixels = coded_to_srgb(pixels, points)
        return Image.fromarray(np.ascontiguousarray(oriented(pixels, display_matrix(frame))))

    def _converted(self, frame: Any, pixel_format: str) -> Any:
        size = square_pixels((frame.width, frame.height), self._stream.sample_aspect_ratio)
        matrix, full = (
            _matrix_of(frame),
            int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith(("yuvj", "gray")),
        )
        made_for = (frame.width, frame.height, frame.format.name, size, matrix, full, pixel_format)
        if made_for != self._made_for:
            self._steps, self._made_for = (
                self._new_graph(frame, size, matrix, full, pixel_format=pixel_format),
                made_for,
            )
        _, source, sink = self._steps  # the graph itself has to stay alive
        source.push(frame)
        return sink.pull()

    def _new_graph(self, frame: Any, size: tuple[int, int], matrix: str, full: bool, pixel_format: str) -> Any:
        from av.filter import Graph

        graph = Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._stream.time_base
        )
        options = f"w={size[0]}:h={size[1]}:flags=bicubic+accurate_rnd+full_chroma_int:out_range=full"
        if matrix:
            options += f":in_color_matrix={matrix}:in_range={'full' if full else 'limited'}"
        steps = [source, graph.add("scale", options), graph.add("format", f"pix_fmts={pixel_format}")]
        steps.append(graph.add("buffersink"))
        for step, following in pairwise(steps):
            step.link_to(following)
        graph.configure()
        return graph, source, steps[-1]


def square_pixels(size: tuple[int, int], pixel_aspect: Any) -> tuple[int, int]:
    """Return the size of a frame with square pixels; the side that is too short grows, so that nothing is lost.

    >>> square_pixels((720, 576), 16 / 15), square_pixels((1440, 1080), 4 / 3), square_pixels((320, 240), 0.5)
    ((768, 576), (1920, 1080), (320, 480))
    """
    aspect = float(pixel_aspect or 1)
    if not 0.1 < aspect < 10:
        return size
    width, height = size
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """Return a, b, c, d of a frame's display matrix: the pixel (x, y) is shown at (a x + c y, b x + d y), y down."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
    return a, b, c, d


def oriented(pixels: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Return pixels [H, W, C] turned and mirrored by a display matrix, rounded to quarter turns."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):  # x and y change places
        pixels = pixels.swapaxes(0, 1)
        right, down = c, b
    else:
        right, down = a, d
    if right < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if down < 0 else pixels


def _matrix_of(frame: Any) -> str:
    """Return the name of a frame's color matrix, empty for RGB."""
    if frame.format.is_rgb:
        return ""
    named = _MATRICES.get(int(frame.colorspace))
    return named or ("bt709" if frame.height >= _HD_ROWS else "bt601")


def _is_full_range(frame: Any) -> bool:
    """Return whether black is 0 and white is 255 (of 8 bits), rather than 16 and 235."""
    return int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith(("yuvj", "gray"))
