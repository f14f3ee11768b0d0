"""ScanNet, extracted from its ``.sens`` files: RGB-D videos of rooms, used here for calibration.

ROOT/scans/<scene>/color/0.jpg, 1.jpg, …            also ROOT/scans_test/<scene>/… or ROOT/<scene>/…
ROOT/scans/<scene>/depth/0.png, …                   millimeters, pixels of the depth camera
ROOT/scans/<scene>/pose/0.txt, …                    4x4 camera-to-world; -inf where tracking failed
ROOT/scans/<scene>/intrinsic/intrinsic_color.txt    4x4; intrinsic_depth.txt likewise
ROOT/scannetv2_train.txt                            one scene a line; scannetv2_val.txt, scannetv2_test.txt likewise
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from qvggt.data.checks import check_intrinsics, check_name
from qvggt.data.dataset import SequenceRecord, chosen_frames
from qvggt.data.files import AGAIN, image_names, photo_size, read_matrix, read_millimeters, require_folder
from qvggt.data.frames import DepthMap, Frame, build_scene, invert_pose, scale_intrinsics
from qvggt.files.read import read_text
from qvggt.options import ImageOptions
from qvggt.options.messages import did_you_mean
from qvggt.types import PathLike, QvggtError, Scene

SPLITS = ("train", "val", "test")

log = logging.getLogger(__name__)


class ScanNet:
    """Reads the scenes of a split that are on disk; missing ones are counted in the log.

    Args:
        root: the folder with ``scannetv2_<split>.txt`` and the extracted scenes.
        split: ``train``, ``val`` or ``test``.
    """

    name = "scannet"

    def __init__(self, root: PathLike, split: str = "train"):
        if split not in SPLITS:
            nearest = did_you_mean(split, SPLITS)
            raise QvggtError(f"ScanNet has no split {split!r}: choose one of {', '.join(SPLITS)}{nearest}")
        self.root = require_folder(root, "ScanNet's split files and extracted scenes")
        self.split = split

    def sequences(self) -> tuple[SequenceRecord, ...]:
        """Return one sequence a scene; opens every pose file on the first call."""
        return self._records

    def load(self, record: SequenceRecord, frame_indices: Sequence[int], options: ImageOptions) -> Scene:
        """Read the chosen frames with cameras and depth in meters."""
        names = chosen_frames(record, frame_indices)
        folder = self._folder(record.name)
        width, height = photo_size(folder / "color" / names[0])
        color = _read_intrinsics(folder / "intrinsic" / "intrinsic_color.txt")
        color = scale_intrinsics(color, 1 / width, 1 / height)
        depth = _read_intrinsics(folder / "intrinsic" / "intrinsic_depth.txt")
        frames = []
        for name in names:
            pose = read_matrix(folder / "pose" / f"{Path(name).stem}.txt", 4, 4, "the camera pose")
            depth_path = folder / "depth" / f"{Path(name).stem}.png"
            read_depth = partial(_read_depth, depth_path, color, depth)
            frames.append(Frame(folder / "color" / name, invert_pose(pose), color, read_depth))
        return build_scene(record, names, frames, options)

    @cached_property
    def _records(self) -> tuple[SequenceRecord, ...]:
        path = self.root / f"scannetv2_{self.split}.txt"
        wanted = sorted({check_name(name, path) for name in read_text(path, AGAIN, "the ScanNet split file").split()})
        records = [self._record(name) for name in wanted if (self._folder(name) / "color").is_dir()]
        if not records:
            raise QvggtError(
                f"no scene that {path.name} names is in {self.root}: scans/<scene>/color/ was looked for; "
                "extract color, depth, poses and intrinsics from the .sens files first"
            )
        if len(records) < len(wanted):
            log.warning("ScanNet: %d of the %d scenes in %s are here", len(records), len(wanted), path.name)
        return tuple(records)

    def _folder(self, name: str) -> Path:
        candidates = (self.root / parent / name for parent in ("scans", "scans_test", "."))
        return next((folder for folder in candidates if folder.is_dir()), self.root / "scans" / name)

    def _record(self, name: str) -> SequenceRecord:
        folder = self._folder(name)
        poses = {
            image: read_matrix(folder / "pose" / f"{Path(image).stem}.txt", 4, 4, "the camera pose")
            for image in image_names(folder / "color")
        }
        return SequenceRecord(name, tuple(image for image, pose in poses.items() if np.isfinite(pose).all()))


def _read_intrinsics(path: Path) -> np.ndarray:
    """Return intrinsics [3, 3] for a first pixel center at (0.5, 0.5); the file's is at (0, 0)."""
    intrinsics = read_matrix(path, 4, 4, "the camera intrinsics")[:3, :3]
    intrinsics[:2, 2] += 0.5
    return check_intrinsics(intrinsics, str(path))


def _read_depth(path: Path, color: np.ndarray, depth: np.ndarray) -> DepthMap:
    # Both cameras count as one: the files give the depth camera no pose of its own.
    to_depth = depth @ np.linalg.inv(color)

    def lookup(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return to_depth[0, 0] * x + to_depth[0, 1] * y + to_depth[0, 2], to_depth[1, 1] * y + to_depth[1, 2]

    return DepthMap(read_millimeters(path), lookup)
