"""7-Scenes: RGB-D videos of seven rooms, taken with a Kinect.

ROOT/<scene>/TestSplit.txt                  one line a sequence, e.g. ``sequence3``; TrainSplit.txt likewise
ROOT/<scene>/seq-03/frame-000000.color.png
ROOT/<scene>/seq-03/frame-000000.depth.png         millimeters, as the depth sensor saw it
ROOT/<scene>/seq-03/frame-000000.depth.proj.png    millimeters, registered to the color camera (made by the user)
ROOT/<scene>/seq-03/frame-000000.pose.txt          4x4 camera-to-world
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np

from qvggt.data.dataset import SequenceRecord, chosen_frames
from qvggt.data.files import AGAIN, image_names, read_matrix, read_millimeters, require_folder
from qvggt.data.frames import DepthMap, Frame, build_scene, invert_pose, pinhole, scale_intrinsics
from qvggt.files.read import read_text
from qvggt.options import ImageOptions
from qvggt.options.messages import did_you_mean
from qvggt.types import PathLike, QvggtError, Scene

SPLITS = ("test", "train")

_SPLIT_FILES = {"test": "TestSplit.txt", "train": "TrainSplit.txt"}
_DEPTH_SUFFIXES = {"sensor": ".depth.png", "registered": ".depth.proj.png"}
_COLOR_SUFFIX = ".color.png"

# For 640x480. The published protocols take the center 320, 240 for pixel centers at integers; ours are at a half.
_INTRINSICS = scale_intrinsics(pinhole((525.0, 525.0), (320.5, 240.5)), 1 / 640, 1 / 480)


class SevenScenes:
    """Reads the sequences that each scene's split file names: 18 in ``test`` if all seven scenes are there.

    Args:
        root: the folder that holds the scene folders (chess, fire, …).
        split: ``test`` or ``train``.
        depth: ``sensor`` reads ``*.depth.png``, which is not registered to the color camera (protocol ``crop224``);
            ``registered`` reads ``*.depth.proj.png`` (protocol ``umeyama``).
    """

    name = "seven_scenes"

    def __init__(self, root: PathLike, split: str = "test", depth: Literal["sensor", "registered"] = "sensor"):
        if split not in SPLITS:
            nearest = did_you_mean(split, SPLITS)
            raise QvggtError(f"7-Scenes has no split {split!r}: choose one of {', '.join(SPLITS)}{nearest}")
        self.root = require_folder(root, "the scenes of 7-Scenes (chess, fire, …)")
        self.split = split
        self.depth = depth

    def sequences(self) -> tuple[SequenceRecord, ...]:
        """Return the split's sequences, named ``<scene>/seq-<number>``."""
        return self._records

    def load(self, record: SequenceRecord, frame_indices: Sequence[int], options: ImageOptions) -> Scene:
        """Read the chosen frames with cameras and depth in meters."""
        names = chosen_frames(record, frame_indices)
        return build_scene(record, names, [self._frame(self.root / record.name / name) for name in names], options)

    @cached_property
    def _records(self) -> tuple[SequenceRecord, ...]:
        split_file = _SPLIT_FILES[self.split]
        scenes = sorted(path.parent for path in self.root.glob(f"*/{split_file}"))
        if not scenes:
            raise QvggtError(
                f"no scene of 7-Scenes is in {self.root}: <scene>/{split_file} was looked for; "
                "give the folder that holds chess, fire, …"
            )
        folders = [folder for scene in scenes for folder in _sequence_folders(scene / split_file)]
        if not folders:
            raise QvggtError(f"no {split_file} in {self.root} names a sequence: unpack the scenes again")
        return tuple(map(self._record, folders))

    def _record(self, folder: Path) -> SequenceRecord:
        names = tuple(name.removesuffix(_COLOR_SUFFIX) for name in image_names(folder) if name.endswith(_COLOR_SUFFIX))
        if not names:
            raise QvggtError(
                f"the 7-Scenes sequence {folder} has no frames: frame-000000{_COLOR_SUFFIX} was looked for; "
                f"unpack {folder.name}.zip there"
            )
        return SequenceRecord(f"{folder.parent.name}/{folder.name}", names)

    def _frame(self, stem: Path) -> Frame:
        pose = read_matrix(stem.with_name(stem.name + ".pose.txt"), 4, 4, "the camera pose")
        if not np.isfinite(pose).all():
            raise QvggtError(f"the camera pose {stem}.pose.txt is not finite: choose other frames")
        depth_path = stem.with_name(stem.name + _DEPTH_SUFFIXES[self.depth])
        photo = stem.with_name(stem.name + _COLOR_SUFFIX)
        return Frame(photo, invert_pose(pose), _INTRINSICS, partial(_read_depth, depth_path))


def _sequence_folders(split_file: Path) -> list[Path]:
    lines = read_text(split_file, AGAIN, "the 7-Scenes split file").split("\n")
    folders = []
    for line in filter(None, map(str.strip, lines)):
        number = re.fullmatch(r"sequence\s*([0-9]{1,9})", line)
        if number is None:
            raise QvggtError(
                f"{split_file} has a line {line[:60]!r} that is not like 'sequence3': unpack the scene again"
            )
        folders.append(split_file.parent / f"seq-{int(number[1]):02d}")
    return sorted(folders)


def _read_depth(path: Path) -> DepthMap:
    return DepthMap(read_millimeters(path))
