"""Which frames of each sequence a measurement is made on, and which sequences."""

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
        rule: ``all`` in order, ``random`` without replacement (see ``draw_frames``), or ``every`` so many-th.
        count: of ``random``, how many; of ``every``, the step, from the first frame on; ``all`` takes no notice.

    Raises:
        QvggtError: ``count`` is below one.
    """

    rule: Literal["all", "random", "every"] = "all"
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise QvggtError(f"the number of frames, or the step between them, must be at least 1, not {self.count}.")

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
        id_map: an earlier choice, which then decides instead: its sequences, restricted to ``records``.

    Returns:
        Sequence name -> indices into the record's ``frames``, for the sequences to be evaluated.
    """
    if choice.rule == "random" or id_map is not None:
        return draw_frames(records, choice.count, seed, id_map)
    step = choice.count if choice.rule == "every" else 1
    return {record.name: tuple(range(0, len(record.frames), step)) for record in records}


def choose_sequences(records: Sequence[SequenceRecord], count: int, seed: int) -> list[SequenceRecord]:
    """Choose ``count`` sequences by a hash of the seed and their names, or all if there are no more; the order stays.

    With one seed the choice of few is part of the choice of many, so that an evaluation can be made larger later.

    Raises:
        QvggtError: ``count`` is below one.
    """
    if count < 1:
        raise QvggtError(f"the number of scenes must be at least 1, not {count}.")
    chosen = sorted(records, key=lambda record: hashlib.sha256(f"{seed}\n{record.name}".encode()).digest())[:count]
    names = {record.name for record in chosen}
    return [record for record in records if record.name in names]
