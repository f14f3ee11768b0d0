"""Moving pictures: MP4, GIF and WebP."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from qvggt.images.files import quote
from qvggt.options.messages import missing_extra
from qvggt.types import PathLike, QvggtError

Moving = Literal["mp4", "gif", "webp"]

_KINDS: dict[str, Moving] = {".mp4": "mp4", ".gif": "gif", ".webp": "webp"}

FRAMES_PER_SECOND: dict[Moving, int] = {"mp4": 24, "gif": 12, "webp": 12}
"""Browsers slow down GIFs of more than about 15 frames per second."""

_GIF_COLORS, _WEBP_QUALITY, _MP4_QUALITY = 128, 65, "20"


def moving_picture(pictures: Iterable[np.ndarray], kind: Moving) -> bytes:
    """Return pictures [H, W, 3] uint8, of even sides, as an endless GIF or WebP, or as an MP4 (H.264; needs PyAV)."""
    if kind == "mp4":
        return _mp4(pictures)
    images = (Image.fromarray(each) for each in pictures)
    buffer, duration_ms = io.BytesIO(), round(1000 / FRAMES_PER_SECOND[kind])
    if kind == "gif":
        images = (each.quantize(_GIF_COLORS, dither=Image.Dither.NONE) for each in images)
        options = {}
    else:
        options = {"quality": _WEBP_QUALITY, "method": 6}
    next(images).save(buffer, kind, save_all=True, append_images=images, duration=duration_ms, loop=0, **options)
    return buffer.getvalue()


def moving_kind(path: PathLike) -> Moving:
    """Return the kind of moving picture that a file's ending names.

    Raises:
        QvggtError: it names none, or MP4 without PyAV.
    """
    kind = _KINDS.get(Path(path).suffix.lower())
    if kind is None:
        raise QvggtError(f"moving pictures are .mp4, .gif or .webp files, got {quote(path)}: choose such a name")
    if kind == "mp4" and find_spec("av") is None:
        raise missing_extra("choose .gif or .webp, as MP4", "video")
    return kind


def _mp4(pictures: Iterable[np.ndarray]) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=Fraction(FRAMES_PER_SECOND["mp4"]), options={"crf": _MP4_QUALITY})
        for number, each in enumerate(pictures):
            if number == 0:
                stream.height, stream.width, stream.pix_fmt = each.shape[0], each.shape[1], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(each, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
