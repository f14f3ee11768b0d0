"""How much memory a reconstruction will take, and how to make do with less, before any of it is done."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from qvggt.checkpoint.open import open_model
from qvggt.inference.memory_sums import (
    FLOAT_BYTES,
    LIBRARY_BYTES,
    PassSize,
    StageMemory,
    answered,
    spare_bytes,
    stage_memory,
)
from qvggt.inference.process_memory import mapped_files, resident_memory_bytes, size_text
from qvggt.model import VGGT, VGGTConfig
from qvggt.options import Compute
from qvggt.types import PathLike, QvggtError

CHUNKS = (1 << 13, 1 << 12, 1 << 11, 1 << 10, 1 << 9)
"""Tokens at a time that are tried, the most first: fewer take longer, as weights are unpacked more often."""

PROGRAM_BYTES = 250_000_000
"""The least that the process itself takes: the interpreter and torch."""
_READER_BYTES, _TENSOR_BYTES = 25_000_000, 10_000
"""What a process that has read images takes besides, and what a tensor of a model takes besides its numbers."""

_WRITER_BYTES = 95_000_000
"""What writing files takes besides what follows: matplotlib, fonts, and a page."""
_POINT_BYTES, _COPIED_POINT_BYTES = 19, 24
"""Of a point with its colour and confidence, and as it is laid out in a file."""
_SHOWN_FRAMES, _SHOWN_PIXEL_BYTES, _SORTED_PIXEL_BYTES = 8, 22, 9
"""Frames on the page, a pixel of theirs, and one of any frame while confidences are put in order."""


@dataclass(frozen=True)
class ModelSize:
    """What a process with a model takes before it sees an image.

    Attributes:
        config: the architecture.
        weight_bytes: of the model's tensors as they lie in memory.
        program_bytes: of the process besides them.
        held_bytes: of a number that waits for its use in the model (see ``stage_memory``).
    """

    config: VGGTConfig
    weight_bytes: int
    program_bytes: int
    held_bytes: int = FLOAT_BYTES


@dataclass(frozen=True)
class MemoryPlan:
    """What a reconstruction will hold.

    Attributes:
        size: what goes through the model, and how much at a time.
        program_bytes: the process itself, with its libraries loaded.
        weight_bytes: the model's tensors.
        working_bytes: what libraries keep once they have run, what is freed and kept, and the widest layer unpacked.
        stages: what each stage of the pass holds besides.
        writing: what writing files holds besides the process, once the model is let go; None where none are written.
    """

    size: PassSize
    program_bytes: int
    weight_bytes: int
    working_bytes: int
    stages: tuple[StageMemory, ...]
    writing: StageMemory | None = None

    @property
    def standing_bytes(self) -> int:
        """What is held throughout the pass."""
        return self.program_bytes + self.weight_bytes + self.working_bytes

    @property
    def writing_bytes(self) -> int:
        """What the process takes while files are written."""
        return self.program_bytes + LIBRARY_BYTES + self.writing.total if self.writing else 0

    @property
    def peak_bytes(self) -> int:
        """What the largest stage brings it to."""
        return max(self.standing_bytes + max(stage.total for stage in self.stages), self.writing_bytes)

    def to_json(self) -> dict[str, Any]:
        """Return the fields, what writing takes, and the peak as JSON-ready values."""
        values = asdict(self)
        values["size"]["heads"] = list(self.size.heads)
        values["stages"] = [stage.to_json() for stage in self.stages]
        values["writing"] = self.writing and self.writing.to_json()
        return {**values, "writing_bytes": self.writing_bytes, "peak_bytes": self.peak_bytes}


def model_size(model: VGGT | PathLike, revision: str | None = None, compute: Compute = "float") -> ModelSize:
    """Return the size of a model, or of whatever ``load`` takes, whose weights are not read.

    Raises:
        QvggtError: it is not found, damaged, or no VGGT.
    """
    if isinstance(model, VGGT):
        program = resident_memory_bytes() - _resident_bytes(list(model.state_dict().values()))
        return ModelSize(model.config, _bytes(model), max(PROGRAM_BYTES, program), _held(model))
    network = open_model(model, revision).shell(compute)
    program = resident_memory_bytes() + _READER_BYTES + _TENSOR_BYTES * len(network.state_dict())
    return ModelSize(network.config, _bytes(network), program, _held(network))


def _held(model: VGGT) -> int:
    dtype = model.arithmetic.waiting_dtype
    return FLOAT_BYTES if dtype is None else dtype.itemsize


def _resident_bytes(tensors: list[Tensor]) -> int:
    """Return how much of tensors is in memory: of a file that is mapped, what has been read."""
    files = mapped_files()
    places = np.array([tensor.data_ptr() for tensor in tensors])
    inside = [(file.start <= places) & (places < file.end) for file in files]
    resident = sum(file.resident_bytes for file, here in zip(files, inside, strict=True) if here.any())
    held = ~np.any(inside, axis=0) if files else np.ones(len(places), bool)
    return resident + sum(tensor.nbytes for tensor, is_held in zip(tensors, held, strict=True) if is_held)


def _bytes(model: VGGT) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def plan_memory(
    model: ModelSize, size: PassSize, limit_bytes: int | None = None, written_points: int = 0
) -> MemoryPlan:
    """Return what a reconstruction will hold, with as much at a time as a limit allows.

    Args:
        model: its size.
        size: what goes through it, and how much at a time at most.
        limit_bytes: of the whole process; None for no limit.
        written_points: the most points of the files that are written afterwards; 0 where none are written.

    Raises:
        QvggtError: nothing fits; the sentence says what would.
    """
    if limit_bytes is None:
        return _plan(model, size, written_points)
    plans = [_plan(model, smaller, written_points) for smaller in _smaller(size)]
    fitting = next((plan for plan in plans if plan.peak_bytes <= limit_bytes), None)
    if fitting is None:
        raise QvggtError(_too_little(model, plans[-1], limit_bytes))
    return fitting


def _plan(model: ModelSize, size: PassSize, written_points: int) -> MemoryPlan:
    widest = 4 * model.config.embed_dim**2 * FLOAT_BYTES
    stages = tuple(stage_memory(model.config, size, model.held_bytes))
    writing = _writing(size, written_points) if written_points else None
    working = LIBRARY_BYTES + widest + spare_bytes(model.config, size)
    return MemoryPlan(size, model.program_bytes, model.weight_bytes, working, stages, writing)


def _writing(size: PassSize, most_points: int) -> StageMemory:
    frames, frame_pixels = size.frames + size.other_frames, size.height_px * size.width_px
    points = min(most_points, frames * frame_pixels)
    passing = max(
        min(frames, _SHOWN_FRAMES) * frame_pixels * _SHOWN_PIXEL_BYTES,
        frames * frame_pixels * _SORTED_PIXEL_BYTES,
        points * _COPIED_POINT_BYTES,
    )
    numbers = frames * frame_pixels * FLOAT_BYTES
    layers = _WRITER_BYTES + points * _POINT_BYTES + passing
    return StageMemory("writing files", images=3 * numbers, layers=layers, answers=answered(size.heads) * numbers)


def _smaller(size: PassSize) -> Iterator[PassSize]:
    """Yield the size and smaller ones, those that take longest last."""
    chunks = [size.chunk_tokens, *(chunk for chunk in CHUNKS if chunk < size.chunk_tokens)]
    dense = [size.dense_frames, *(2**power for power in (2, 1, 0) if 2**power < size.dense_frames)]
    for chunk, frames in itertools.product(chunks, dense):
        yield replace(size, chunk_tokens=chunk, dense_frames=frames)


def _too_little(model: ModelSize, least: MemoryPlan, limit_bytes: int) -> str:
    total = least.size.frames + least.size.other_frames
    windows = (
        replace(least.size, frames=count, other_frames=total - count) for count in range(least.size.frames - 1, 1, -1)
    )
    frames = next((size.frames for size in windows if _plan(model, size, 0).peak_bytes <= limit_bytes), 0)
    way = f"or reconstruct {frames} frames at a time (--window {frames})" if frames else "or take a smaller model"
    if least.writing_bytes > limit_bytes:
        way = "or smaller ones"
    needed = size_text(least.peak_bytes * 1.005)  # rounded up, or the figure itself might be refused
    return (
        f"{total} frames of {least.size.width_px}x{least.size.height_px} px need at least "
        f"{needed}, more than {size_text(limit_bytes)}: allow that much, take fewer frames, {way}"
    )
