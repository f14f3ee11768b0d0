"""Turn frames as a dataset stores them into a `Scene`: image, camera and depth in processed pixels.

Two pixel conventions meet here: in a `FrameMap` and a `DepthMap`, as in COLMAP, the first pixel's center is at
(0.5, 0.5). In a `Scene`, as in `qvggt.geometry`, it is at (0, 0): `geometry.unproject(scene.depth, scene.intrinsics,
scene.cam_from_world)` gives the true points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from qvggt import geometry
from qvggt.data.checks import check_frame
from qvggt.data.dataset import SequenceRecord
from qvggt.data.files import read_photo
from qvggt.images.decode import read_image
from qvggt.images.preprocess import preprocess
from qvggt.options import ImageOptions
from qvggt.types import FrameMap, Scene

DepthLookup = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(x, y) in shares of the photograph's width and height -> (x, y) in pixels of the depth map."""


@dataclass(frozen=True)
class DepthMap:
    """A depth map as stored.

    Attributes:
        values: [h, w] float32, distance along the optical axis of the photograph's camera; 0 where it was not measured.
        lookup: where points of the photograph are in ``values``; None if both show the same field of view.
    """

    values: np.ndarray
    lookup: DepthLookup | None = None


@dataclass(frozen=True)
class Frame:
    """A photograph with its camera and depth map, where they are known.

    Attributes:
        photo: the image file; EXIF orientation is applied only if ``intrinsics`` is None.
        cam_from_world: [3, 4] float64, OpenCV axes, or None.
        intrinsics: [3, 3] float64 in shares of the photograph's width (first row) and height (second row), so that it
            holds for a resized copy too; (0, 0) is the image's corner. None if the camera is unknown.
        depth: reads the depth map; called once, after the image has been processed. None if there is no depth.
    """

    photo: Path
    cam_from_world: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    depth: Callable[[], DepthMap] | None = None


def pinhole(focal: tuple[float, float], center: tuple[float, float]) -> np.ndarray:
    """Return intrinsics [3, 3] float64 with the (x, y) focal lengths and principal point given."""
    return np.array([[focal[0], 0, center[0]], [0, focal[1], center[1]], [0, 0, 1]], dtype=np.float64)


def scale_intrinsics(intrinsics: np.ndarray, scale_x: float, scale_y: float) -> np.ndarray:
    """Return intrinsics [3, 3] in other units of length: pixels into shares, or shares into pixels."""
    return np.array([scale_x, scale_y, 1.0])[:, None] * intrinsics


def invert_pose(world_from_cam: np.ndarray) -> np.ndarray:
    """Return ``cam_from_world`` [3, 4] of a rigid camera-to-world matrix [3, 4] or [4, 4]."""
    return geometry.invert_camera(torch.from_numpy(np.asarray(world_from_cam[:3], dtype=np.float64))).numpy()


def build_scene(record: SequenceRecord, names: Sequence[str], frames: Sequence[Frame], options: ImageOptions) -> Scene:
    """Read, check and process frames; a field that one frame lacks is None for the whole scene.

    One photograph and one depth map are in memory in full size at a time.

    Args:
        record: the sequence that the frames are from.
        names: one name per frame.
        frames: the frames, in the order wanted.
        options: how images are made into model input.

    Raises:
        QvggtError: a file is missing or damaged, or a camera is impossible.
    """
    for name, frame in zip(names, frames, strict=True):
        check_frame(record.name, name, frame.cam_from_world, frame.intrinsics)
    processed = preprocess(map(_read_pixels, frames), names, options)
    placed = list(zip(frames, processed.maps, strict=True))
    sampled = [
        None if frame.depth is None else sample_depth(frame.depth(), frame_map, processed.images.shape[-2:])
        for frame, frame_map in placed
    ]
    return Scene(
        name=record.name,
        images=processed.images,
        cam_from_world=_stack([frame.cam_from_world for frame in frames]),
        intrinsics=_stack(
            [None if frame.intrinsics is None else map_intrinsics(frame.intrinsics, place) for frame, place in placed]
        ),
        depth=_stack([None if pair is None else pair[0] for pair in sampled]),
        valid=_stack([None if pair is None else pair[1] for pair in sampled]),
        group=record.group,
    )


def map_intrinsics(intrinsics: np.ndarray, frame_map: FrameMap) -> np.ndarray:
    """Return intrinsics [3, 3] of the processed image, in pixels with the first one's center at (0, 0).

    Args:
        intrinsics: [3, 3] in shares of the photograph's width and height.
        frame_map: how the photograph was scaled and cropped.
    """
    (width, height), (offset_x, offset_y) = frame_map.original_size, frame_map.offset
    pixels = scale_intrinsics(intrinsics, width * frame_map.scale[0], height * frame_map.scale[1])
    pixels[0, 2] += offset_x - 0.5
    pixels[1, 2] += offset_y - 0.5
    return pixels


def sample_depth(depth: DepthMap, frame_map: FrameMap, image_hw: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return depth [H, W] float32 and validity [H, W] bool at the pixels of the processed image.

    Each pixel takes the nearest measurement: averages across an edge would be points in mid-air.
    """
    height, width = image_hw
    photo_width, photo_height = frame_map.original_size
    x, y = np.meshgrid(
        (np.arange(width) + 0.5 - frame_map.offset[0]) / (frame_map.scale[0] * photo_width),
        (np.arange(height) + 0.5 - frame_map.offset[1]) / (frame_map.scale[1] * photo_height),
    )  # [H, W] in shares of the photograph
    inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    rows, columns = depth.values.shape
    x, y = (x * columns, y * rows) if depth.lookup is None else depth.lookup(x, y)
    inside &= (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    sampled = np.zeros((height, width), dtype=np.float32)
    sampled[inside] = depth.values[y[inside].astype(np.int64), x[inside].astype(np.int64)]
    valid = np.isfinite(sampled) & (sampled > 0)
    sampled[~valid] = 0
    return sampled, valid


def _read_pixels(frame: Frame) -> Image.Image:
    return read_image(frame.photo) if frame.intrinsics is None else read_photo(frame.photo)


def _stack(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    present = [array for array in arrays if array is not None]
    return np.stack(present) if len(present) == len(arrays) else None
