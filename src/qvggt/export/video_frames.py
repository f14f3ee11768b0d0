"""Chosen frames of a video as pictures, with a contact sheet and their measured quantities as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qvggt.export.sheet import FAINT, PANEL, TEXT, WARNING, Sheet
from qvggt.files import make_folder, new_file, write_json
from qvggt.images.choose_frames import VideoTrack
from qvggt.images.video import read_video_frames
from qvggt.options import PictureFormat

IMAGES, CONTACT, DOCUMENT = "images", "contact.png", "frames.json"
FRAMES_VERSION = 1

_QUALITY = 95
_THUMB_PX, _COLUMNS = 320, 6
_THUMB_IN, _GAP, _MARGIN, _LABEL, _TITLE, _CURVES = 2.1, 0.12, 0.3, 0.22, 0.6, 1.4
_BLURRED = 0.6
"""Relative sharpness below which a frame's label has the color of a warning."""


@dataclass(frozen=True)
class _Thumb:
    picture: Image.Image
    label: str
    blurred: bool


def write_frames(
    video: Path, track: VideoTrack, numbers: Sequence[int], folder: Path, picture_format: PictureFormat
) -> dict[str, Any]:
    """Write ``images/``, ``contact.png`` and ``frames.json``, and return the content of the last.

    A picture is named by the number of its frame and its time. The frames are decoded again, one in memory at a time.

    Args:
        video: path of the video.
        track: its measured frames.
        numbers: of the frames to write, ascending.
        folder: where to write.
        picture_format: of the pictures.

    Raises:
        QvggtError: the video cannot be read any more, or a file cannot be written.
    """
    make_folder(folder / IMAGES)
    document = _document(video, track, numbers, picture_format)
    thumbs = list(_written(video, document["frames"], folder))
    _write_contact(folder / CONTACT, thumbs, track, numbers, title=document["video"])
    write_json(folder / DOCUMENT, document)
    return document


def _document(video: Path, track: VideoTrack, numbers: Sequence[int], picture_format: PictureFormat) -> dict[str, Any]:
    count, last = len(track.time_s), float(track.time_s[-1])
    digits, seconds = len(str(count - 1)), len(str(int(last)))
    ending = "jpg" if picture_format == "jpeg" else "png"
    relative = track.relative_sharpness
    frames = [
        {
            "file": f"{IMAGES}/frame_{n:0{digits}d}_{track.time_s[n]:0{seconds + 4}.3f}s.{ending}",
            "number": int(n),
            "time_s": round(float(track.time_s[n]), 4),
            "sharpness": round(float(track.sharpness[n]), 2),
            "relative_sharpness": round(float(relative[n]), 3),
            "motion_widths": round(float(track.motion[n]), 4),
        }
        for n in numbers
    ]
    return {
        "format": "qvggt-frames",
        "version": FRAMES_VERSION,
        "conventions": (
            "number counts decoded frames from 0; sharpness is the variance of the Laplacian of a small gray copy, "
            "relative_sharpness that over the median of the frames within 2 seconds; motion is the path of the "
            "content from the first frame on, in widths of the picture"
        ),
        "video": video.name,
        "frames": frames,
        "measured": {
            "time_s": np.round(track.time_s, 4).tolist(),
            "sharpness": np.round(track.sharpness, 2).tolist(),
            "motion_widths": np.round(track.motion, 4).tolist(),
        },
    }


def _written(video: Path, frames: Sequence[dict[str, Any]], folder: Path) -> Iterator[_Thumb]:
    """Write the pictures, and yield a thumbnail of each."""
    for frame, image in zip(frames, read_video_frames(video, [frame["number"] for frame in frames]), strict=True):
        with new_file(folder / frame["file"], overwrite=True) as temporary:
            if frame["file"].endswith("png"):
                image.save(temporary, format="PNG")
            else:
                image.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0)
        image.thumbnail((_THUMB_PX, _THUMB_PX))
        sharpness = frame["relative_sharpness"]
        label = f"{frame['time_s']:.1f} s  ·  frame {frame['number']}  ·  sharpness {sharpness:.2f}"
        yield _Thumb(image, label, sharpness < _BLURRED)


def _write_contact(path: Path, thumbs: Sequence[_Thumb], track: VideoTrack, numbers: Sequence[int], title: str) -> None:
    columns = min(_COLUMNS, max(3, len(thumbs)))
    rows = -(-len(thumbs) // columns)
    width, height = thumbs[0].picture.size
    tall = min(_THUMB_IN * height / width, 1.5 * _THUMB_IN)
    step = tall + _LABEL + _GAP
    sheet = Sheet(2 * _MARGIN + columns * (_THUMB_IN + _GAP) - _GAP, _TITLE + rows * step + _CURVES + 0.5)
    line = f"{len(thumbs)} of {len(track.time_s)} frames"
    sheet.text(_MARGIN, 0.18, sheet.printable(title, 60), fontsize=14, fontweight="bold")
    sheet.text(sheet.width - _MARGIN, 0.24, line, fontsize=9.5, color=FAINT, ha="right")
    for index, thumb in enumerate(thumbs):
        left = _MARGIN + index % columns * (_THUMB_IN + _GAP)
        top = _TITLE + index // columns * step
        sheet.axes(left, top, _THUMB_IN, tall).imshow(thumb.picture, interpolation="antialiased")
        sheet.text(left, top + tall + 0.05, thumb.label, fontsize=6.5, color=WARNING if thumb.blurred else FAINT)
    _draw_curves(sheet, track, numbers, top=_TITLE + rows * step + 0.2)
    sheet.save(path)


def _draw_curves(sheet: Sheet, track: VideoTrack, numbers: Sequence[int], top: float) -> None:
    """Draw sharpness and motion over time, with the chosen frames as dots."""
    wide = (sheet.width - 2 * _MARGIN - 0.3) / 2
    curves = (("sharpness", track.sharpness), ("motion, in widths of the picture", track.motion))
    for index, (name, values) in enumerate(curves):
        left = _MARGIN + index * (wide + 0.3)
        axes = sheet.axes(left, top, wide, _CURVES)
        axes.set_axis_on()
        axes.set(facecolor=PANEL, ylim=(0, max(float(values.max()), 1e-6) * 1.08))
        axes.tick_params(colors=FAINT, labelsize=6, direction="in", pad=-12)
        axes.spines[:].set_visible(False)
        axes.plot(track.time_s, values, color=FAINT, linewidth=0.9)
        axes.plot(track.time_s[list(numbers)], values[list(numbers)], ".", color=TEXT, markersize=5)
        sheet.text(left, top - 0.17, f"{name}, over seconds", fontsize=7, color=FAINT)
