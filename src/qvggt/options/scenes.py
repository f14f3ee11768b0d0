"""Options of reconstructing many scenes."""

from __future__ import annotations

from dataclasses import dataclass

from qvggt.options.checks import check_fields
from qvggt.options.choices import DENSE_FRAMES, RESULT_FILES, Head, ImageMode, PointsFrom, ResultFile, check_heads
from qvggt.options.inference import ExportOptions, ImageOptions, InferenceOptions, WindowOptions
from qvggt.options.known import KnownCameras, ScaleOptions
from qvggt.types import PathLike, QvggtError


@dataclass(frozen=True)
class SceneOptions:
    """How each of many scenes is reconstructed, and which files it gets.

    Attributes:
        heads: what to compute; none for what the points need.
        points_from: source of the points, ``depth`` or ``head``.
        mode: ``crop`` or ``pad``.
        fps: frames per second to sample from videos.
        frames: most frames of each scene, evenly spaced.
        windows: how long sequences are split into windows; None for all frames at once.
        focal: known focal length of all photographs, as in ``KnownCameras``.
        gps: whether positions in the photographs' EXIF data make scenes metric.
        align_world: with ``gps``: whether the world is rotated and moved to the known positions.
        refine: whether cameras are refined on the photographs.
        max_points: most points in the files.
        drop_percent: percentage of pixels, the least confident, that yield no point.
        files: files to write.
        dense_frames: most frames that the dense heads process at a time.
        memory_bytes: memory limit in bytes of the process, and of each worker on Ray; None for no limit.

    Raises:
        QvggtError: a value is out of range.
    """

    heads: tuple[Head, ...] = ()
    points_from: PointsFrom = ExportOptions.points_from
    mode: ImageMode = ImageOptions.mode
    fps: float | None = None
    frames: int | None = None
    windows: WindowOptions | None = None
    focal: float | PathLike | None = None
    gps: bool = False
    align_world: bool = False
    refine: bool = False
    max_points: int = ExportOptions.max_points
    drop_percent: float = ExportOptions.drop_percent
    files: tuple[ResultFile, ...] = RESULT_FILES
    dense_frames: int = DENSE_FRAMES
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self.heads)
        ImageOptions(mode=self.mode, fps=self.fps, frames=self.frames)  # these raise for impossible values
        ExportOptions(self.points_from, self.max_points, self.drop_percent, files=self.files)
        InferenceOptions(self.dense_frames, self.windows, self.memory_bytes)
        KnownCameras(self.focal)
        if self.align_world and not self.gps:
            raise QvggtError("only known positions align the world: take them from GPS too (--scale gps)")

    @property
    def known(self) -> KnownCameras:
        """The known cameras."""
        return KnownCameras(self.focal)

    @property
    def scale(self) -> ScaleOptions | None:
        """Where metric scale comes from; None without one."""
        return ScaleOptions(gps=True, align_world=self.align_world) if self.gps else None


@dataclass(frozen=True)
class WorkerOptions:
    """The processes that compute scenes.

    Attributes:
        ray: address of a Ray cluster (extra ``ray``), such as ``10.0.0.1:6379`` or ``ray://head:10001``; ``auto`` for
            that of RAY_ADDRESS, the one that runs on this machine, or a new one here; ``local`` for a new one. None
            for this process alone.
        workers: most processes on Ray; None for as many as CPUs, GPUs and memory allow.
        threads: CPU threads of each process; None for torch's own choice on this machine. Another number changes the
            last digits.

    Raises:
        QvggtError: a number is below 1, or workers are given without a cluster.
    """

    ray: str | None = None
    workers: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name, count in (("workers", self.workers), ("threads", self.threads)):
            if count is not None and count < 1:
                raise QvggtError(f"the number of {name} must be at least 1, got {count} (--{name})")
        if self.workers is not None and self.ray is None:
            raise QvggtError(f"{self.workers} workers need a Ray cluster: name it (--ray auto)")
