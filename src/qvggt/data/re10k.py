"""RealEstate10K: house-tour videos with camera tracks; the frames are extracted from the videos by the user.

    ROOT/<split>/<sequence>.txt                       cameras: the video's address, then one line a frame
    ROOT/frames/<split>/<sequence>/<timestamp>.png    frames (or .jpg), or ROOT/<split>/<sequence>/<timestamp>.png
    ROOT/<split>_sequences.txt                        optional: the sequences to read, one a line

A camera line is ``timestamp fx fy cx cy k1 k2`` and the 12 numbers of ``cam_from_world`` row by row; the timestamp is
in microseconds, the intrinsics are in units of the image's width (fx, cx) and height (fy, cy).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from qvggt.data.checks import check_name
from qvggt.data.dataset import SequenceRecord, chosen_frames
from qvggt.data.files import AGAIN, image_names, require_folder
from qvggt.data.frames import Frame, build_scene, pinhole
from qvggt.files.read import read_text, reading
from qvggt.options import ImageOptions
from qvggt.options.messages import did_you_mean
from qvggt.types import PathLike, QvggtError, Scene

SPLITS = ("test", "train")

log = logging.getLogger(__name__)

_COLUMNS = 19
_TIMESTAMP = re.compile("[0-9]{1,40}")


class RealEstate10K:
    """Reads the sequences whose frames are on disk.

    Many videos are no longer available, so sequences without frames are left out and counted in the log; reports should
    state the number. A frame's name is its timestamp. There is no depth. The lens distortion k1, k2 is 0 in the dataset
    and not used.

    Args:
        root: the folder with the camera files and the frames.
        split: ``test`` or ``train``.
        sequence_list: a text file that names the sequences to read, one a line (published figures use a list of 1800
            test sequences); without it ``ROOT/<split>_sequences.txt`` if that exists, else every sequence.
    """

    name = "re10k"

    def __init__(self, root: PathLike, split: str = "test", sequence_list: PathLike | None = None):
        if split not in SPLITS:
            nearest = did_you_mean(split, SPLITS)
            raise QvggtError(f"RealEstate10K has no split {split!r}: choose one of {', '.join(SPLITS)}{nearest}")
        self.root = require_folder(root, "RealEstate10K's test/ and train/ folders of camera files")
        self.split = split
        default_list = self.root / f"{split}_sequences.txt"
        if sequence_list is None and default_list.is_file():
            sequence_list = default_list
        self.sequence_list = None if sequence_list is None else Path(sequence_list)

    def sequences(self) -> tuple[SequenceRecord, ...]:
        """Return the sequences that have frames; opens every camera file on the first call."""
        return self._records

    def load(self, record: SequenceRecord, frame_indices: Sequence[int], options: ImageOptions) -> Scene:
        """Read the chosen frames with cameras."""
        names = chosen_frames(record, frame_indices)
        folder = self._frame_folder(record.name)
        files = {Path(name).stem: name for name in image_names(folder)}
        cameras = self._read_cameras(record.name)
        frames = []
        for name in names:
            if name not in files or name not in cameras:
                raise QvggtError(f"frame {name} of {record.name} is missing: {folder / name}.png was looked for")
            fx, fy, cx, cy = cameras[name][:4]
            pose = cameras[name][6:].reshape(3, 4)
            frames.append(Frame(folder / files[name], pose, pinhole((fx, fy), (cx, cy))))
        return build_scene(record, names, frames, options)

    @cached_property
    def _records(self) -> tuple[SequenceRecord, ...]:
        records = []
        wanted = self._wanted()
        for name in wanted:
            if not self._frame_folder(name).is_dir():
                continue
            present = {Path(file).stem for file in image_names(self._frame_folder(name))}
            frames = tuple(timestamp for timestamp in self._read_cameras(name) if timestamp in present)
            if frames:
                records.append(SequenceRecord(name, frames))
        if not records:
            raise QvggtError(
                f"no frame of RealEstate10K is in {self.root}: frames/{self.split}/<sequence>/<timestamp>.png was "
                "looked for; extract the frames from the videos first"
            )
        if len(records) < len(wanted):
            log.warning("RealEstate10K: %d of %d sequences have frames here", len(records), len(wanted))
        return tuple(records)

    def _wanted(self) -> list[str]:
        if self.sequence_list is not None:
            lines = read_text(self.sequence_list, AGAIN, "the list of RealEstate10K sequences").split("\n")
            names = {line.strip().removesuffix(".txt") for line in lines if line.strip()}
            return sorted(check_name(name, self.sequence_list) for name in names)
        folder = self.root / self.split
        wanted = sorted(path.stem for path in folder.glob("*.txt"))
        if not wanted:
            raise QvggtError(
                f"no camera file of RealEstate10K is in {self.root}: {folder}/<sequence>.txt was looked for; "
                "unpack RealEstate10K.tar.gz there"
            )
        return wanted

    def _frame_folder(self, name: str) -> Path:
        folder = self.root / "frames" / self.split / name
        return folder if folder.is_dir() else self.root / self.split / name

    def _read_cameras(self, name: str) -> dict[str, np.ndarray]:
        """Return timestamp -> the other 18 numbers of its line: 4 intrinsics, 2 distortions, 12 of the pose."""
        path = self.root / self.split / f"{name}.txt"
        cameras = {}
        lines = read_text(path, "unpack it again", "the camera file").split("\n")[1:]
        with reading(path, "unpack it again", "the camera file"):
            for timestamp, *numbers in filter(None, map(str.split, lines)):
                values = np.array([float(number) for number in numbers], dtype=np.float64)
                if values.size != _COLUMNS - 1 or not np.isfinite(values).all() or not _TIMESTAMP.fullmatch(timestamp):
                    raise ValueError(f"the line of frame {timestamp[:40]!r}")
                cameras[timestamp] = values
        return cameras
