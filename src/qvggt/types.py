"""Frozen numpy-only types shared by the packages of qvggt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NewType

import numpy as np

LayerId = NewType("LayerId", str)
"""Dotted name of a layer, e.g. ``aggregator.frame_blocks.3.attn.qkv``."""

BlockId = NewType("BlockId", str)
"""Kind and index of a block, e.g. ``frame/7``, ``global/7``, ``patch_embed/0``, ``camera/1``."""

OnProgress = Callable[[str, float], None]
"""Called with the stage under way, e.g. ``8 frames, attention``, and the share of the work done, 0 to 1."""


class QvggtError(Exception):
    """An error that the user can fix; its message says what is wrong and how to fix it.

    Characters that cannot be printed, such as NUL, line ends and lone surrogates in names from files, are escaped.

    >>> str(QvggtError("a\\nb"))
    'a\\\\nb'
    """

    def __init__(self, message: object = "") -> None:
        super().__init__("".join(c if c.isprintable() else _escaped(c) for c in str(message)))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


@dataclass(frozen=True)
class FrameMap:
    """Affine map from the pixels of a photograph to those of its processed image.

    The point (u, v) of the photograph is at (u * scale[0] + offset[0], v * scale[1] + offset[1]) in the processed
    image; pixel centers are at integer coordinates plus one half in both.

    Attributes:
        original_size: (width, height) of the photograph after EXIF orientation, in pixels.
        scale: (x, y) processed pixels per original pixel.
        offset: (x, y) of the photograph's corner in the processed image, in pixels; negative where it was cropped.
    """

    original_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]


@dataclass(frozen=True)
class ImageSet:
    """Preprocessed images of one scene.

    Attributes:
        images: [S, 3, H, W] float32 in 0..1, H and W multiples of the model's patch.
        maps: one FrameMap per frame.
        names: one name per frame (a file name, or ``video.mp4#12``).
    """

    images: np.ndarray
    maps: tuple[FrameMap, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """Images of one scene with its ground truth, if known.

    Attributes:
        name: unique inside its dataset and split.
        images: [S, 3, H, W] float32 in 0..1.
        cam_from_world: [S, 3, 4] float64, OpenCV axes, or None.
        intrinsics: [S, 3, 3] float64 in pixels of ``images``, or None.
        depth: [S, H, W] float32, distance along the optical axis in the scene's unit (meters), or None.
        valid: [S, H, W] bool, True where ``depth`` is known, or None.
        group: the group in which metrics are averaged, for example a CO3D category.
    """

    name: str
    images: np.ndarray
    cam_from_world: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    depth: np.ndarray | None = None
    valid: np.ndarray | None = None
    group: str = ""


@dataclass(frozen=True)
class Prediction:
    """Output of the model for one scene; fields of heads that were not run are None.

    Attributes:
        images: [S, 3, H, W] float32 in 0..1, as the model saw them.
        names: one name per frame.
        maps: one FrameMap per frame, from pixels of the photograph to pixels of ``images``.
        cam_from_world: [S, 3, 4] float32, OpenCV axes; the first camera is near the identity.
        intrinsics: [S, 3, 3] float32 in pixels of the processed image, the first pixel's center at (0.5, 0.5).
        pose_enc: [S, 9] float32: translation, quaternion xyzw, vertical and horizontal field of view in radians.
        depth: [S, H, W] float32, in the model's unit.
        depth_conf: [S, H, W] float32, at least 1.
        world_points: [S, H, W, 3] float32, in the frame of ``cam_from_world``. Unprojected from depth they are those
            of the published model, which has the first pixel's center at (0, 0).
        world_points_conf: [S, H, W] float32, at least 1.
        mask: [S, H, W] bool, False where the user's masks exclude a pixel; None if there are no masks.
    """

    images: np.ndarray
    names: tuple[str, ...]
    maps: tuple[FrameMap, ...]
    cam_from_world: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    pose_enc: np.ndarray | None = None
    depth: np.ndarray | None = None
    depth_conf: np.ndarray | None = None
    world_points: np.ndarray | None = None
    world_points_conf: np.ndarray | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Rig:
    """Cameras that are fixed to each other, and the frames that they took at the same moments.

    Attributes:
        cam_from_rig: [3, 4] in meters by the camera's name; None if the cameras' relative poses are not known.
        groups: for each moment the frame of each camera, by the camera's name.
    """

    cam_from_rig: Mapping[str, np.ndarray] | None
    groups: Sequence[Mapping[str, str]]


OnWindow = Callable[[Prediction], None]
"""Called with the frames that a window adds to a reconstruction, in the world of the frames before them."""

PathLike = str | Path
