"""Choose the sequences of a dataset and the frames of each that are evaluated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qvggt.data.dataset import IdMap, SequenceRecord, draw_frames
from qvggt.types import QvggtError


@dataclass(frozen=True)
class FrameChoice:
    """A rule that chooses frames of a sequence.

    Attributes:
        rule: ``all`` in order, ``random`` without replacement (see ``draw_frames``), or ``every`` n-th.
        count: of ``random``, the number of frames; of ``every``, the step, from the first frame on; unused by ``all``.

    Raises:
        QvggtError: ``count`` is below one.
    """

    rule: Literal["all", "random", "every"] = "all"
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise QvggtError(
                f"the number of frames, or the step between them, must be at least 1, not {self.count} (--frames, "
                "--every)"
            )

    def __str__(self) -> str:
        return {"all": "all frames in order", "random": f"{self.count} frames drawn", "every": f"every {self.count}th"}[
            self.rule
        ]


ALL_FRAMES = FrameChoice("all")


def choose_frames(
    records: Sequence[SequenceRecord], choice: FrameChoice, seed: int, id_map: IdMap | None = None
) -> dict[str, tuple[int, ...]]:
    """Choose frames of every sequence.

    Args:
        records: the sequences.
        choice: the rule.
        seed: of the draw.
        id_map: an earlier choice to use instead; sequences that ``records`` lacks are ignored.

    Returns:
        Sequence name -> indices into the record's ``frames``, for the sequences to be evaluated.
    """
    if choice.rule == "random" or id_map is not None:
        return draw_frames(records, choice.count, seed, id_map)
    step = choice.count if choice.rule == "every" else 1
    return {record.name: tuple(range(0, len(record.frames), step)) for record in records}


def choose_sequences(records: Sequence[SequenceRecord], count: int, seed: int) -> list[SequenceRecord]:
    """Choose at most ``count`` sequences by a hash of the seed and their names; their order is kept.

    With one seed a smaller choice is part of a larger one, so that an evaluation can be extended later.

    Raises:
        QvggtError: ``count`` is below one.
    """
    if count < 1:
        raise QvggtError(f"the number of scenes must be at least 1, not {count} (--scenes)")

    def rank(record: SequenceRecord) -> bytes:
        return hashlib.sha256(f"{seed}\n{record.name}".encode(errors="surrogateescape")).digest()

    names = {record.name for record in sorted(records, key=rank)[:count]}
    return [record for record in records if record.name in names]
