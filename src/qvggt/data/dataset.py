"""Sequences of a dataset, listed without reading them, and the choice of frames that a measurement is made on.

A reader lists what is there (`sequences`) and reads a few frames of one sequence when asked (`load`), so that ten
frames can be drawn from each of thousands of sequences without opening the others. Which frames were drawn is an *id
map*: it can be saved and given again, so that two runs see the same frames.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qvggt.options import ImageOptions
from qvggt.types import PathLike, QvggtError, Scene

log = logging.getLogger(__name__)

IdMap = Mapping[str, tuple[int, ...]]
"""Sequence name -> indices of its chosen frames, in the order that the model sees them."""


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
    """What the evaluation needs of a dataset.

    Attributes:
        name: the dataset's name, e.g. ``co3d``.
        split: the split that is read, e.g. ``test``.
    """

    name: str
    split: str

    def sequences(self) -> Sequence[SequenceRecord]:
        """Return every sequence of the split, sorted by name.

        Raises:
            QvggtError: the folder does not hold the dataset, or a file that lists it is missing or unreadable.
        """
        ...

    def load(self, record: SequenceRecord, frame_indices: Sequence[int], options: ImageOptions) -> Scene:
        """Read some frames of a sequence.

        Args:
            record: a sequence that `sequences` returned.
            frame_indices: which of ``record.frames``, in the order wanted; the first is the reference camera.
            options: how images are made into model input.

        Raises:
            QvggtError: a frame's file is missing or unreadable, or an index is out of range.
        """
        ...


def draw_frames(
    records: Sequence[SequenceRecord], frames: int, seed: int, id_map: IdMap | None = None
) -> dict[str, tuple[int, ...]]:
    """Draw ``frames`` frames of every sequence at random, without replacement.

    Each sequence is drawn by itself: frames are ranked by a hash of the seed, the sequence's name and the frame's name.
    So neither the order of ``records`` nor the absence of some changes what the others get, and the draw is the same on
    every platform. The frames keep their random order.

    Args:
        records: the sequences; those with fewer than ``frames`` candidates are left out, and a warning counts them.
        frames: how many to draw, at least 1.
        seed: another seed gives another draw.
        id_map: an earlier draw, which then decides instead: its sequences, restricted to ``records``.

    Returns:
        Sequence name -> indices into the record's ``frames``, for the sequences to be evaluated.
    """
    if frames < 1:
        raise ValueError(f"expected at least one frame to draw, got {frames}")
    if id_map is not None:
        return {record.name: tuple(id_map[record.name]) for record in records if record.name in id_map}
    drawn = {record.name: _draw(record, frames, seed) for record in records if len(record.frames) >= frames}
    if len(drawn) < len(records):
        log.warning(
            "%d of %d sequences have fewer than %d frames: left out", len(records) - len(drawn), len(records), frames
        )
    return drawn


def _draw(record: SequenceRecord, frames: int, seed: int) -> tuple[int, ...]:
    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{seed}\n{record.name}\n{record.frames[index]}".encode()).digest()

    return tuple(sorted(range(len(record.frames)), key=rank)[:frames])


def save_id_map(path: PathLike, id_map: IdMap, records: Sequence[SequenceRecord]) -> None:
    """Write an id map as JSON: ``{"version": 1, "sequences": {name: [frame names]}}``.

    Frames are written by name, so that the map means the same where other frames of a sequence are missing.
    """
    frames = {record.name: record.frames for record in records}
    unknown = sorted(set(id_map) - set(frames))
    if unknown:
        raise ValueError(f"the id map names sequences that are not among the records, first {unknown[0]!r}")
    names = {name: [frames[name][index] for index in indices] for name, indices in sorted(id_map.items())}
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps({"version": 1, "sequences": names}, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def load_id_map(path: PathLike, records: Sequence[SequenceRecord]) -> dict[str, tuple[int, ...]]:
    """Read an id map and find its frames in ``records``; sequences that ``records`` lacks are left out.

    Raises:
        QvggtError: the file is missing or no id map, or names a frame that its sequence does not have here.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        names = {str(name): [str(frame) for frame in frames] for name, frames in content["sequences"].items()}
    except FileNotFoundError as error:
        raise QvggtError(f"the id map {path} does not exist: give the file that an earlier run saved") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise QvggtError(f"{path} is not an id map: give the JSON file that an earlier run saved") from error
    id_map = {}
    for record in records:
        if record.name not in names:
            continue
        index = {frame: i for i, frame in enumerate(record.frames)}
        missing = [frame for frame in names[record.name] if frame not in index]
        if missing:
            raise QvggtError(
                f"the id map {path} asks for frame {missing[0]} of sequence {record.name}, which is not in the data: "
                "download it, or draw a new id map"
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
