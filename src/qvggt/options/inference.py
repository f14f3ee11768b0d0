"""Options from photographs to the files of a prediction: images, model, inference, export."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from qvggt.options.attention import GlobalAttention, attention_of
from qvggt.options.checks import check_fields
from qvggt.options.choices import (
    DENSE_FRAMES,
    RESULT_FILES,
    Compute,
    ImageMode,
    PictureFormat,
    PointsFrom,
    ResultFile,
    Unit,
    check_choice,
)
from qvggt.types import QvggtError

_OVERLAP = 4


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded for inference.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ...; ``auto`` is a usable GPU, or else the CPU.
        compute: arithmetic of products; ``auto`` is the fastest that is near-lossless on the device. Float models
            compute in float32 where integers are asked for.
        global_attention: ``auto`` (the plan that the checkpoint states, or else exact), ``exact``, ``merged`` (over
            groups of patches in most blocks), a preset, a plan, or its JSON file; see ``attention_of``.
    """

    device: str = "auto"
    compute: Compute = "auto"
    global_attention: GlobalAttention = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("compute mode", self.compute, Compute)
        attention_of(self.global_attention)


@dataclass(frozen=True)
class ImageOptions:
    """How photographs become the model's input.

    Attributes:
        size: the model's image size in pixels, a multiple of ``patch``: the width in ``crop`` mode, the longer side in
            ``pad`` mode.
        patch: the model's patch size in pixels; heights and widths are multiples of it.
        mode: ``crop`` cuts tall images to a square, ``pad`` fills every image up to a square with white.
        fps: frames per second to sample from a video; None if ``frames`` decides.
        frames: most frames to take of a video, a folder or a list, evenly spaced. A video for which neither
            ``fps`` nor ``frames`` is given yields 16; folders and lists yield all of their images.

    Raises:
        QvggtError: a value is out of range.
    """

    size: int = 518
    patch: int = 14
    mode: ImageMode = "crop"
    fps: float | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.patch < 1 or self.size < self.patch or self.size % self.patch:
            raise QvggtError(f"the image size must be a positive multiple of the patch {self.patch}, not {self.size}")
        check_choice("image mode", self.mode, ImageMode)
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise QvggtError(f"the frames per second must be above 0, not {self.fps} (--fps)")
        if self.frames is not None and self.frames < 1:
            raise QvggtError(f"the number of frames must be at least 1, not {self.frames} (--frames)")


@dataclass(frozen=True)
class FrameOptions:
    """Which frames of a video are written as pictures, and how.

    Attributes:
        number: of frames; fewer if the video has fewer.
        format: ``jpeg`` (quality 95) or ``png``.

    Raises:
        QvggtError: a value is out of range.
    """

    number: int = 16
    format: PictureFormat = "jpeg"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("format", self.format, PictureFormat)
        if self.number < 1:
            raise QvggtError(f"the number of frames must be at least 1, not {self.number} (--number)")


@dataclass(frozen=True)
class WindowOptions:
    """How a long sequence is split into overlapping windows.

    Attributes:
        frames: frames per window, at least 2.
        overlap: frames shared by neighboring windows, at least 1; None for 4, or fewer in small windows.
        close_loops: whether drift is corrected where the path returns, which takes up to another pass for each window.

    Raises:
        QvggtError: a value is out of range.
    """

    frames: int
    overlap: int | None = None
    close_loops: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.frames < 2:
            raise QvggtError(f"a window needs at least 2 frames, not {self.frames} (--window)")
        if not 1 <= self.shared < self.frames:
            raise QvggtError(
                f"windows of {self.frames} frames can overlap by 1 to {self.frames - 1} frames, not by {self.shared} "
                "(--overlap)"
            )

    @classmethod
    def of(cls, frames: int | None, overlap: int | None = None, close_loops: bool = False) -> WindowOptions | None:
        """Return the windows of a command's options, or None if no window is asked for.

        Raises:
            QvggtError: a value is out of range, or another option is given without a window.
        """
        if frames is None and overlap is not None:
            raise QvggtError(f"an overlap of {overlap} frames needs windows: give their frames too (--window)")
        if frames is None and close_loops:
            raise QvggtError("loops are closed between windows: give their frames too (--window)")
        return None if frames is None else cls(frames, overlap, close_loops)

    @property
    def shared(self) -> int:
        """Frames shared by neighboring windows."""
        return min(_OVERLAP, self.frames - 1) if self.overlap is None else self.overlap

    def ranges(self, count: int) -> list[range]:
        """Return the windows of a sequence of ``count`` frames; the last one ends with the sequence."""
        starts = range(0, max(1, count - self.shared), self.frames - self.shared)
        return [range(max(0, min(start, count - self.frames)), min(start + self.frames, count)) for start in starts]


@dataclass(frozen=True)
class InferenceOptions:
    """How one scene passes through a model; none of it changes what is computed, but for ``windows``.

    Attributes:
        dense_frames: most frames that the dense heads process at a time: fewer need less memory.
        windows: windows of a long sequence; None for all frames at once.
        memory_bytes: process memory limit in bytes, for which ``dense_frames`` and ``chunk_tokens`` are reduced to fit;
            None for no limit.
        chunk_tokens: tokens that pass through a block's layers at a time; None for what suits the device.

    Raises:
        QvggtError: a value is out of range.
    """

    dense_frames: int = DENSE_FRAMES
    windows: WindowOptions | None = None
    memory_bytes: int | None = None
    chunk_tokens: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.dense_frames < 1:
            raise QvggtError(
                f"the frames per step of the dense heads must be at least 1, got {self.dense_frames} (--dense-frames)"
            )
        if self.memory_bytes is not None and self.memory_bytes < 1:
            raise QvggtError(f"the memory limit must be above 0 bytes, got {self.memory_bytes} (--memory)")
        if self.chunk_tokens is not None and self.chunk_tokens < 1:
            raise QvggtError(f"chunks need at least 1 token, got {self.chunk_tokens}")


@dataclass(frozen=True)
class ExportOptions:
    """What the files of a prediction contain.

    Attributes:
        points_from: ``depth`` (depth and cameras) or ``head`` (the point head).
        max_points: most points in ``points.ply`` and ``scene.glb``; more are thinned at random.
        drop_percent: percentage of pixels, the least confident, that yield no point.
        seed: random seed of the thinning.
        title: title of ``overview.png``, usually the model's name.
        unit: unit of lengths, which the files state.
        files: files to write, of those for which the prediction has the outputs.

    Raises:
        QvggtError: a value is out of range.
    """

    points_from: PointsFrom = "depth"
    max_points: int = 1_000_000
    drop_percent: float = 25.0
    seed: int = 0
    title: str = ""
    unit: Unit = "model"
    files: Collection[ResultFile] = RESULT_FILES

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("source of points", self.points_from, PointsFrom)
        check_choice("unit", self.unit, Unit)
        if not self.files:
            raise QvggtError("there is nothing to write: name at least one file (--files)")
        for name in self.files:
            check_choice("file", name, ResultFile)
        if self.max_points < 1:
            raise QvggtError(f"the number of points must be at least 1, got {self.max_points} (--max-points)")
        if not 0 <= self.drop_percent <= 100:
            raise QvggtError(
                f"the percentage of pixels to drop must be in 0..100, got {self.drop_percent} (--drop-percent)"
            )
