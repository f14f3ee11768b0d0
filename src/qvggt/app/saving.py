"""What leaves the viewer: pictures, turntables, files for download, and the metric result."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from qvggt.app.picking import orbit
from qvggt.export import select_points, write_cameras, write_glb, write_ply
from qvggt.export.result import Result, as_shown, result_folder, write_result
from qvggt.postprocess.metric_scale import MetricScale, scaled
from qvggt.types import Prediction, QvggtError

if TYPE_CHECKING:
    from viser import ClientHandle

FILES: tuple[str, ...] = ("points.ply", "scene.glb", "cameras.json")
MOVING: tuple[str, ...] = ("MP4", "GIF", "WebP")

_TIMEOUT_S = 60.0
_PANEL_PX = 560
"""Least width of a picture that fills the panel."""


def in_meters(result: Result, meters: float) -> Result:
    """Return a result whose lengths are in meters.

    Args:
        result: in any unit.
        meters: meters per unit, from one distance between two picked points.
    """
    scale = MetricScale("distance", meters, 0.0, 0.0, used=1)
    details = {**result.info.details, "scale": {**scale.to_json(), "world": "predicted"}}
    info = replace(result.info, unit="meter", details=details)
    return replace(result, prediction=scaled(result.prediction, meters), info=info)


def save_as(result: Result, folder: str) -> Path:
    """Write a result and its files into a new folder, and return it.

    Raises:
        QvggtError: the folder exists already, or cannot be written.
    """
    if not folder.strip():
        raise QvggtError("name the folder to save to")
    with result_folder(folder.strip()) as place:
        write_result(result.prediction, result.info, place)
    return Path(folder.strip())


def file_bytes(result: Result, name: str, max_points: int) -> bytes:
    """Return the content of an exported file.

    Raises:
        QvggtError: the result lacks what the file needs.
    """
    prediction, info = result.prediction, result.info

    def cloud():
        (shown,) = as_shown([result])
        source = shown.info.points_from
        return select_points(shown.prediction, source, max_points=max_points, drop_percent=info.drop_percent)

    writers: dict[str, Callable[[Path], None]] = {
        "points.ply": lambda path: write_ply(path, cloud(), info.unit),
        "scene.glb": lambda path: write_glb(path, prediction, cloud(), info.unit),
        "cameras.json": lambda path: write_cameras(path, prediction, info.unit),
    }
    with tempfile.TemporaryDirectory() as folder:
        writers[name](Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def screenshot(client: ClientHandle, height_px: int = 1080) -> bytes:
    """Return what a browser shows as PNG, with a width that suits its window."""
    width_px = round(height_px * client.camera.image_width / max(client.camera.image_height, 1))
    picture = client.get_render(height_px, width_px, transport_format="png", timeout=_TIMEOUT_S)
    opaque = Image.new("RGB", (width_px, height_px), "white")
    drawn = Image.fromarray(picture)
    opaque.paste(drawn, mask=drawn.getchannel("A") if drawn.mode == "RGBA" else None)
    return png_bytes(np.asarray(opaque))


def png_bytes(picture: np.ndarray) -> bytes:
    """Return an image [H, W, 3] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def turntable(
    client: ClientHandle,
    center: np.ndarray,
    count: int,
    size_px: tuple[int, int] = (960, 540),
    on_progress: Callable[[float], None] | None = None,
) -> list[np.ndarray]:
    """Return the pictures [H, W, 3] of a full turn around a center, rendered by a browser from where it stands.

    Args:
        client: the browser.
        center: [3] what is looked at.
        count: of the pictures.
        size_px: width and height of the pictures.
        on_progress: called with the share done.

    Raises:
        TimeoutError: the browser does not answer.
    """
    from viser.transforms import SO3

    width, height = size_px
    pictures = []
    for index, (place, rotation) in enumerate(zip(*orbit(center, client.camera.position, count), strict=True)):
        wxyz = SO3.from_matrix(rotation).wxyz
        pictures.append(
            client.get_render(height, width, wxyz=wxyz, position=place, fov=client.camera.fov, timeout=_TIMEOUT_S)[
                ..., :3
            ]
        )
        if on_progress is not None:
            on_progress((index + 1) / count)
    return pictures


def frame_pictures(prediction: Prediction, frames: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """Yield photographs beside their depth as sRGB images [H, W, 3]; the photographs alone if there is no depth.

    Args:
        prediction: with images.
        frames: which; None for all.
    """
    from qvggt.export.depth_images import DepthRange, depth_frames
    from qvggt.postprocess.frames import to_uint8

    chosen = range(len(prediction.images)) if frames is None else frames
    photos = (to_uint8(prediction.images[frame].transpose(1, 2, 0)) for frame in chosen)
    if prediction.depth is None:
        yield from photos
        return
    colors = DepthRange.robust_of(lambda: (depth[valid] for depth, valid in depth_frames(prediction)))
    for photo, (depth, valid) in zip(photos, depth_frames(prediction, chosen), strict=True):
        gap = np.full((len(photo), max(2, photo.shape[1] // 60), 3), 255, np.uint8)
        both = np.concatenate((photo, gap, colors.colors(depth, valid)), axis=1)
        larger = -(-_PANEL_PX // both.shape[1])
        yield both.repeat(larger, 0).repeat(larger, 1)
