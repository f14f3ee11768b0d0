"""Neural RGB-D (NRGBD): rendered RGB-D videos of rooms.

ROOT/<scene>/images/img0.png, img1.png, …
ROOT/<scene>/depth/depth0.png, …             millimeters, with simulated sensor noise; depth_filtered/ likewise
ROOT/<scene>/poses.txt                       4 lines a frame: camera-to-world with OpenGL axes; NaN where unknown
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from qvggt.data.dataset import SequenceRecord, chosen_frames
from qvggt.data.files import AGAIN, image_names, read_millimeters, require_folder
from qvggt.data.frames import DepthMap, Frame, build_scene, invert_pose, pinhole, scale_intrinsics
from qvggt.files.read import read_text, reading
from qvggt.options import ImageOptions
from qvggt.types import PathLike, QvggtError, Scene

SPLITS = ("test",)

_EXCLUDED = "icl_living_room"  # rendered with another camera than the nine evaluated scenes
_FOCAL_PX = 554.2562584220408

# For 640x480. The published protocols take the center 320, 240 for pixel centers at integers; ours are at a half.
_INTRINSICS = scale_intrinsics(pinhole((_FOCAL_PX, _FOCAL_PX), (320.5, 240.5)), 1 / 640, 1 / 480)


class NeuralRgbd:
    """Reads every scene in a folder; frames without a pose are left out.

    Args:
        root: the folder that holds the scene folders (breakfast_room, green_room, …).
        split: ``test``, the only one.
        depth_folder: ``depth`` or ``depth_filtered``.
    """

    name = "nrgbd"

    def __init__(self, root: PathLike, split: str = "test", depth_folder: str = "depth"):
        if split not in SPLITS:
            raise QvggtError(f"NRGBD has no split {split!r}: it has 'test' only")
        self.root = require_folder(root, "the scenes of NRGBD (breakfast_room, green_room, …)")
        self.split = split
        self.depth_folder = depth_folder

    def sequences(self) -> tuple[SequenceRecord, ...]:
        """Return one sequence a scene."""
        return tuple(SequenceRecord(scene, tuple(poses)) for scene, poses in self._poses.items())

    def load(self, record: SequenceRecord, frame_indices: Sequence[int], options: ImageOptions) -> Scene:
        """Read the chosen frames with cameras and depth in meters."""
        names = chosen_frames(record, frame_indices)
        poses = self._poses[record.name]
        frames = [self._frame(self.root / record.name, name, poses[name]) for name in names]
        return build_scene(record, names, frames, options)

    @cached_property
    def _poses(self) -> dict[str, dict[str, np.ndarray]]:
        """Scene -> image name -> camera-to-world [4, 4] with OpenGL axes."""
        scenes = sorted(path.parent for path in self.root.glob("*/poses.txt") if path.parent.name != _EXCLUDED)
        if not scenes:
            raise QvggtError(
                f"no scene of NRGBD is in {self.root}: <scene>/poses.txt was looked for; "
                "give the folder that holds breakfast_room, green_room, …"
            )
        return {scene.name: _candidates(scene) for scene in scenes}

    def _frame(self, folder: Path, name: str, pose: np.ndarray) -> Frame:
        opencv_pose = pose.copy()
        opencv_pose[:, 1:3] *= -1  # OpenGL: y up, z backwards
        depth_path = folder / self.depth_folder / name.replace("img", "depth", 1)
        return Frame(folder / "images" / name, invert_pose(opencv_pose), _INTRINSICS, partial(_read_depth, depth_path))


def _candidates(scene: Path) -> dict[str, np.ndarray]:
    path = scene / "poses.txt"
    text = read_text(path, AGAIN, "the pose file")
    with reading(path, AGAIN, "the pose file"):
        values = np.array([float(word) for word in text.split()], dtype=np.float64)
        if values.size % 16:
            raise ValueError("not a stack of 4x4 matrices")
        poses = values.reshape(-1, 4, 4)
    images = [f"img{index}.png" for index in range(len(poses))]
    present = set(image_names(scene / "images"))
    found = {
        name: pose for name, pose in zip(images, poses, strict=True) if name in present and np.isfinite(pose).all()
    }
    if not found:
        raise QvggtError(f"the NRGBD scene {scene} has no image with a pose: {scene}/images/img0.png was looked for")
    return found


def _read_depth(path: Path) -> DepthMap:
    return DepthMap(read_millimeters(path))
