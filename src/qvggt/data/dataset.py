"""Datasets as lists of sequences, and the frames of each that are evaluated.

A reader lists sequences without opening their images (`sequences`) and loads chosen frames of one (`load`). An *id map*
stores which frames were chosen, so that two runs use the same frames.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from qvggt.files import write_json
from qvggt.files.read import read_json, reading
from qvggt.options import ImageOptions
from qvggt.types import PathLike, QvggtError, Scene

log = logging.getLogger(__name__)

IdMap = Mapping[str, tuple[int, ...]]
"""Sequence name -> indices of its chosen frames, in the order of the model's input."""


@dataclass(frozen=True)
class SequenceRecord:
    """One sequence of a dataset, before any of its images is read.

    Attributes:
        name: unique inside its dataset, and the same in every split, e.g. ``apple/110_13051_23361``.
        frames: names of the candidate frames, in the order they were taken.
        group: the pool that metrics are averaged in (a CO3D category); empty where there is one pool.
    """

    name: str
    frames: tuple[str, ...]
    group: str = ""


class DatasetReader(Protocol):
    """A dataset's sequences and how to load their frames.

    Attributes:
        name: the dataset's name, e.g. ``co3d``.
        split: the split that is read, e.g. ``test``.
    """

    name: str
    split: str

    def sequences(self) -> Sequence[SequenceRecord]:
        """Return every sequence of the split, sorted by name.

        Raises:
            QvggtError: the folder does not hold the dataset, or a file that lists it is missing or damaged.
        """
        ...

    def load(self, record: SequenceRecord, frame_indices: Sequence[int], options: ImageOptions) -> Scene:
        """Load chosen frames of a sequence.

        Args:
            record: a sequence that `sequences` returned.
            frame_indices: indices into ``record.frames``, in the order wanted; the first is the reference camera.
            options: how images are made into model input.

        Raises:
            QvggtError: a frame's file is missing or damaged, or an index is out of range.
        """
        ...


def draw_frames(
    records: Sequence[SequenceRecord], frames: int, seed: int, id_map: IdMap | None = None
) -> dict[str, tuple[int, ...]]:
    """Draw ``frames`` frames of every sequence at random, without replacement.

    Frames are ranked by a hash of the seed, the sequence's name and the frame's name. A sequence's draw therefore does
    not depend on other sequences or on the platform. Frames keep their random order.

    Args:
        records: the sequences; those with fewer than ``frames`` candidates are left out, and a warning counts them
            unless none is left.
        frames: number of frames per sequence, at least 1.
        seed: another seed gives another draw.
        id_map: an earlier draw to use instead; sequences that ``records`` lacks are ignored.

    Returns:
        Sequence name -> indices into the record's ``frames``, for the sequences to be evaluated.
    """
    if frames < 1:
        raise ValueError(f"expected at least one frame to draw, got {frames}")
    if id_map is not None:
        return {record.name: tuple(id_map[record.name]) for record in records if record.name in id_map}
    drawn = {record.name: _draw(record, frames, seed) for record in records if len(record.frames) >= frames}
    if 0 < len(drawn) < len(records):
        log.warning(
            "%d of %d sequences have fewer than %d frames: left out", len(records) - len(drawn), len(records), frames
        )
    return drawn


def _draw(record: SequenceRecord, frames: int, seed: int) -> tuple[int, ...]:
    def rank(index: int) -> bytes:
        return hashlib.sha256(
            f"{seed}\n{record.name}\n{record.frames[index]}".encode(errors="surrogateescape")
        ).digest()

    return tuple(sorted(range(len(record.frames)), key=rank)[:frames])


def save_id_map(path: PathLike, id_map: IdMap, records: Sequence[SequenceRecord]) -> None:
    """Write an id map as JSON: ``{"version": 1, "sequences": {name: [frame names]}}``.

    Frames are written by name, so that the map stays valid if other frames of a sequence are missing.

    Raises:
        QvggtError: the file cannot be written.
    """
    frames = {record.name: record.frames for record in records}
    unknown = sorted(set(id_map) - set(frames))
    if unknown:
        raise ValueError(f"the id map names sequences that are not among the records, first {unknown[0]!r}")
    names = {name: [frames[name][index] for index in indices] for name, indices in sorted(id_map.items())}
    write_json(path, {"version": 1, "sequences": names})


def load_id_map(path: PathLike, records: Sequence[SequenceRecord]) -> dict[str, tuple[int, ...]]:
    """Read an id map and look up its frames in ``records``; sequences that ``records`` lacks are ignored.

    Raises:
        QvggtError: the file is missing or damaged, or names a frame that its sequence lacks.
    """
    remedy, what = "give the JSON file that an earlier run saved", "the id map"
    content = read_json(path, remedy, what)
    with reading(path, remedy, what):
        names = {name: [str(frame) for frame in frames] for name, frames in content["sequences"].items()}
    id_map = {}
    for record in records:
        if record.name not in names:
            continue
        index = {frame: i for i, frame in enumerate(record.frames)}
        missing = [frame for frame in names[record.name] if frame not in index]
        if missing:
            raise QvggtError(
                f"the id map {path} names frame {missing[0]} of sequence {record.name}, which is not in the "
                "data: download it, or draw a new id map (--id-map)"
            )
        id_map[record.name] = tuple(index[frame] for frame in names[record.name])
    return id_map


def chosen_frames(record: SequenceRecord, frame_indices: Sequence[int]) -> list[str]:
    """Return the names of the chosen frames.

    Raises:
        QvggtError: no frame was chosen, or an index is out of range.
    """
    if len(frame_indices) == 0:
        raise QvggtError(f"no frame of sequence {record.name} was chosen: choose at least one")
    outside = [index for index in frame_indices if not 0 <= index < len(record.frames)]
    if outside:
        raise QvggtError(
            f"frame {outside[0]} of sequence {record.name} does not exist: choose from 0 to {len(record.frames) - 1}"
        )
    return [record.frames[index] for index in frame_indices]
