"""The memory plan: how much memory a reconstruction will need, and chunk sizes with which it fits a limit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from qvggt.backends import choose
from qvggt.backends.native.processors import features
from qvggt.checkpoint.open import attention_in, open_model
from qvggt.inference.memory_sums import (
    FLOAT_BYTES,
    LIBRARY_BYTES,
    PassSize,
    StageMemory,
    output_channels,
    stage_memory,
    working_bytes,
)
from qvggt.inference.process_memory import mapped_files, resident_memory_bytes, size_text
from qvggt.model import VGGT, VGGTConfig
from qvggt.options import Compute, GlobalAttention
from qvggt.postprocess.overview_layout import MAX_SHOWN, page_pixels
from qvggt.types import AttentionPlan, PathLike, QvggtError

CHUNKS = (1 << 13, 1 << 12, 1 << 11, 1 << 10, 1 << 9)
"""Chunk lengths in tokens to try, longest first: shorter ones are slower, as weights are unpacked more often."""

PROGRAM_BYTES = 250_000_000
"""Least memory of the process itself: the interpreter and torch."""
_AMPLE_SHARE = 0.8
"""Share of the limit below which freed memory may be retained."""
_LOADER_BYTES, _READER_BYTES, _TENSOR_BYTES = 3_000_000, 6_000_000, 3_000
"""Additional memory of a process that has loaded a model, that has read images, and of a tensor beyond its values."""

_CAMERA_WEIGHTS, _RETAINED_CAMERA_WEIGHTS = 1.8, 5
"""Expanded weights of the camera head's widest layer in half precision: while it runs, and if freed ones stay."""
_TILES_CAMERA_WEIGHTS = 1.0
"""The same while it runs on a CPU that multiplies tiles (AMX), where freed ones did not stay."""

_WRITER_BYTES, _PAGE_PIXEL_BYTES, _DRAWN_BYTES = 38_500_000, 6, 10_000
"""Memory that writing files needs: matplotlib and fonts, for a pixel of the overview page, and for a camera on it."""
_SHOWN_FRAME_BYTES, _WINDOWS_BYTES = 2_600_000, 4_000_000
"""Memory of what draws a frame's pictures on the overview page, and of what reads finished windows from files."""
_POINT_BYTES, _COPIED_POINT_BYTES = 19, 24
"""Bytes of a point with its color and confidence, and of its copy in a file's layout."""
_SHOWN_PIXEL_BYTES, _SORTED_PIXEL_BYTES = 22, 9
"""Bytes of a frame's pixel that is shown on the overview page, and of one while confidences are sorted."""

_DEPTH_IMAGE_BYTES, _FILE_POINT_BYTES, _PAGE_BYTES = 1, 35, 500_000
"""Of the files, at least: bytes of a pixel in depth images, of a point in two files, and of all others."""


@dataclass(frozen=True)
class ModelSize:
    """Memory of a process with a model that has not run yet.

    Attributes:
        config: the architecture.
        weight_bytes: the model's tensors.
        program_bytes: the rest of the process.
        cached_bytes: per value that is cached during the forward pass (see ``stage_memory``).
        half: whether layers compute in half precision, in which weights are expanded for few tokens too.
        attention: plan of the global blocks; None for exact ones.
        stays: whether the model stays in memory while files are written.
    """

    config: VGGTConfig
    weight_bytes: int
    program_bytes: int
    cached_bytes: int = FLOAT_BYTES
    half: bool = False
    attention: AttentionPlan | None = None
    stays: bool = False


@dataclass(frozen=True)
class MemoryPlan:
    """Predicted memory of a reconstruction.

    Attributes:
        size: the input, and how much of it is processed at a time.
        program_bytes: the process itself, with its libraries loaded.
        weight_bytes: the model's tensors.
        working_bytes: buffers of libraries, freed memory that the allocator retains, and the widest layer unpacked.
        stages: additional memory of each stage of the forward pass.
        writing: additional memory while files are written, after the model is released; None if none are written.
        retained: whether freed memory is retained for reuse, which is faster, during the forward pass.
    """

    size: PassSize
    program_bytes: int
    weight_bytes: int
    working_bytes: int
    stages: tuple[StageMemory, ...]
    writing: StageMemory | None = None
    retained: bool = True

    @property
    def standing_bytes(self) -> int:
        """Memory in use throughout the forward pass."""
        return self.program_bytes + self.weight_bytes + self.working_bytes

    @property
    def writing_bytes(self) -> int:
        """Memory of the process while files are written."""
        return self.program_bytes + LIBRARY_BYTES + self.writing.total if self.writing else 0

    @property
    def peak_bytes(self) -> int:
        """Memory of the process in its largest stage."""
        return max(self.standing_bytes + max(stage.total for stage in self.stages), self.writing_bytes)

    def to_json(self) -> dict[str, Any]:
        """Return the fields, the memory while writing, and the peak as JSON-ready values."""
        values = asdict(self)
        values["size"]["heads"] = list(self.size.heads)
        values["stages"] = [stage.to_json() for stage in self.stages]
        values["writing"] = self.writing and self.writing.to_json()
        return {**values, "writing_bytes": self.writing_bytes, "peak_bytes": self.peak_bytes}


def model_size(
    model: VGGT | PathLike,
    revision: str | None = None,
    compute: Compute = "float32",
    global_attention: GlobalAttention = "auto",
) -> ModelSize:
    """Return the memory of a model, in memory or by name; the weights of a named one are not read.

    Args:
        model: in memory, where it says itself how it computes, or whatever ``load`` takes.
        revision: branch, tag or commit of a hub id.
        compute: as in ``load``.
        global_attention: as in ``load``; ``merged`` is counted as exact.

    Raises:
        QvggtError: the model is not found, is damaged, or is not a VGGT, or there is no such attention.
    """
    if isinstance(model, VGGT):
        program = resident_memory_bytes() - _resident_bytes(list(model.state_dict().values()))
        program = max(PROGRAM_BYTES, program + _READER_BYTES)
        return _sized(model, program, model.aggregator.global_attention)
    opened = open_model(model, revision)
    chosen = choose("cpu", compute, opened.config.embed_dim, opened.recipe is not None)
    return size_when_loaded(opened.shell(chosen.compute), attention_in(opened, global_attention))


def size_when_loaded(shell: VGGT, attention: str | AttentionPlan = "exact") -> ModelSize:
    """Return the memory that a model on the meta device, and its global attention, will take here once it is loaded."""
    program = resident_memory_bytes() + _LOADER_BYTES + _READER_BYTES + _TENSOR_BYTES * len(shell.state_dict())
    return _sized(shell, program, attention)


def _sized(model: VGGT, program_bytes: int, attention: str | AttentionPlan) -> ModelSize:
    return ModelSize(
        model.config,
        weight_bytes=_bytes(model),
        program_bytes=program_bytes,
        cached_bytes=_cached_bytes(model),
        half=model.arithmetic.dtype is not None,
        attention=attention if isinstance(attention, AttentionPlan) else None,
    )


def _cached_bytes(model: VGGT) -> int:
    dtype = model.arithmetic.cache_dtype
    return FLOAT_BYTES if dtype is None else dtype.itemsize


def _resident_bytes(tensors: list[Tensor]) -> int:
    """Return how many bytes of tensors are in memory; of tensors in mapped files, the pages that have been read."""
    files = mapped_files()
    places = np.array([tensor.data_ptr() for tensor in tensors])
    inside = [(file.start <= places) & (places < file.end) for file in files]
    resident = sum(file.resident_bytes for file, here in zip(files, inside, strict=True) if here.any())
    allocated = ~np.any(inside, axis=0) if files else np.ones(len(places), bool)
    return resident + sum(tensor.nbytes for tensor, here in zip(tensors, allocated, strict=True) if here)


def _bytes(model: VGGT) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def plan_memory(
    model: ModelSize,
    size: PassSize,
    limit_bytes: int | None = None,
    written_points: int = 0,
    reading: StageMemory | None = None,
) -> MemoryPlan:
    """Plan the memory of a reconstruction, with the largest chunks that fit a limit.

    Args:
        model: memory of the model and its process.
        size: the input, and the largest chunks.
        limit_bytes: of the whole process; None for no limit.
        written_points: most points in files that are written afterwards; 0 if none are written.
        reading: memory of reading the images before the forward pass, if that is known.

    Raises:
        QvggtError: the smallest chunks exceed the limit; the message says what would fit.
    """
    free = _plan(model, size, written_points, reading, retained=True)
    if limit_bytes is None or free.peak_bytes <= _AMPLE_SHARE * limit_bytes:
        return free
    plans = [_plan(model, smaller, written_points, reading) for smaller in _smaller(size)]
    fitting = next((plan for plan in plans if plan.peak_bytes <= limit_bytes), None)
    if fitting is None:
        raise QvggtError(_too_large(model, plans[-1], limit_bytes))
    return fitting


def _plan(
    model: ModelSize,
    size: PassSize,
    written_points: int,
    reading: StageMemory | None = None,
    *,
    retained: bool = False,
) -> MemoryPlan:
    stages = (*([reading] if reading else []), *stage_memory(model.config, size, model.cached_bytes, model.attention))
    working = working_bytes(model.config, size, model.cached_bytes, retained)
    if model.half and "camera" in size.heads:
        widest = 4 * (2 * model.config.embed_dim) ** 2 * FLOAT_BYTES
        images = 3 * (size.frames + size.other_frames) * size.height_px * size.width_px * FLOAT_BYTES
        has_tiles = "amx_bf16" in features()
        weights = _TILES_CAMERA_WEIGHTS if has_tiles else _CAMERA_WEIGHTS
        stages = (*stages, StageMemory("cameras", images=images, layers=round(weights * widest)))
        working += _RETAINED_CAMERA_WEIGHTS * widest if retained and not has_tiles else 0
    return MemoryPlan(
        size,
        program_bytes=model.program_bytes,
        weight_bytes=model.weight_bytes,
        working_bytes=working,
        stages=stages,
        writing=_writing(size, written_points, model.weight_bytes * model.stays) if written_points else None,
        retained=retained,
    )


def _writing(size: PassSize, most_points: int, held_bytes: int) -> StageMemory:
    frames, frame_pixels = size.frames + size.other_frames + size.stored_frames, size.height_px * size.width_px
    points = min(most_points, frames * frame_pixels)
    passing = max(
        min(frames, MAX_SHOWN) * frame_pixels * _SHOWN_PIXEL_BYTES,
        frame_pixels * _SORTED_PIXEL_BYTES,
        points * _COPIED_POINT_BYTES,
    )
    numbers = (1 if size.stored_frames else frames) * frame_pixels * FLOAT_BYTES
    pixels = page_pixels(frames, (size.height_px, size.width_px), kinds=3 if output_channels(size.heads) else 1)
    page = _WRITER_BYTES + _PAGE_PIXEL_BYTES * pixels + _DRAWN_BYTES * frames
    page += _SHOWN_FRAME_BYTES * min(frames, MAX_SHOWN) + _WINDOWS_BYTES * bool(size.stored_frames)
    layers = page + points * _POINT_BYTES + passing + held_bytes
    return StageMemory(
        "writing files", images=3 * numbers, layers=layers, answers=output_channels(size.heads) * numbers
    )


def output_bytes(size: PassSize, most_points: int) -> int:
    """Return how many bytes the files of a reconstruction take at least if half of the pixels yield points."""
    pixels = (size.frames + size.other_frames) * size.height_px * size.width_px
    prediction = pixels * FLOAT_BYTES * (3 + output_channels(size.heads))
    return prediction + pixels * _DEPTH_IMAGE_BYTES + min(most_points, pixels // 2) * _FILE_POINT_BYTES + _PAGE_BYTES


def _smaller(size: PassSize) -> Iterator[PassSize]:
    """Yield the size and the same with smaller chunks, the slowest last."""
    chunks = [size.chunk_tokens, *(chunk for chunk in CHUNKS if chunk < size.chunk_tokens)]
    dense = [size.dense_frames, *(2**power for power in (2, 1, 0) if 2**power < size.dense_frames)]
    for chunk, frames in itertools.product(chunks, dense):
        yield replace(size, chunk_tokens=chunk, dense_frames=frames)


def largest_window(model: ModelSize, size: PassSize, limit_bytes: int) -> int:
    """Return the most frames of a window that fits a limit in the smallest chunks; 0 if no two frames do.

    Args:
        model: memory of the model and its process.
        size: the input; its other frames are kept in files while a window passes.
        limit_bytes: of the whole process.
    """
    *_, least = _smaller(size)
    total = size.frames + size.other_frames + size.stored_frames
    windows = (
        replace(least, frames=count, other_frames=0, stored_frames=total - count)
        for count in range(size.frames if size.other_frames else size.frames - 1, 1, -1)
    )
    return next((window.frames for window in windows if _plan(model, window, 0).peak_bytes <= limit_bytes), 0)


def _too_large(model: ModelSize, least: MemoryPlan, limit_bytes: int) -> str:
    total = least.size.frames + least.size.other_frames + least.size.stored_frames
    frames = largest_window(model, least.size, limit_bytes)
    way = f"reconstruct windows of {frames} frames (--window {frames})" if frames else "use a smaller model"
    if frames and least.size.other_frames:
        way = f"keep windows of {frames} frames in files (folder=...)"
    if least.writing_bytes > limit_bytes:
        way = "use smaller images"
    needed = size_text(least.peak_bytes * 1.005)  # rounded up, or the figure itself might be refused
    return (
        f"{total} frames of {least.size.width_px}x{least.size.height_px} px need at least {needed}, more than the "
        f"{size_text(limit_bytes)} allowed: raise the limit (--memory), use fewer frames (--frames), or {way} "
        "(qvggt doctor says what fits here)"
    )
