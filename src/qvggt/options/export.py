"""Options of exporting a reconstruction to the formats of other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qvggt.options.checks import check_fields
from qvggt.options.choices import ALL_HEADS, Head, PointsFrom, check_choice, check_heads
from qvggt.types import QvggtError

ExportFormat = Literal["colmap", "nerfstudio", "splat", "ply", "glb", "trajectory", "depth"]
"""A COLMAP model, nerfstudio's ``transforms.json``, Gaussians to start training from, points as PLY, a GLB scene,
camera trajectories, or depth maps."""

Resolution = Literal["original", "processed"]
"""Images as they were photographed, or as the model saw them."""

DepthFiles = Literal["png", "npy", "exr"]
"""Depth as 16-bit integers with a scale, as NumPy arrays, or as OpenEXR images."""

OnnxCompute = Literal["float32", "int8"]
"""Arithmetic of packed linear layers in an ONNX file."""

FORMAT_POINTS: dict[ExportFormat, int] = {
    "colmap": 100_000, "nerfstudio": 100_000, "splat": 100_000, "ply": 1_000_000, "glb": 1_000_000
}  # fmt: skip
"""Most points of each format that has points, if no number is given."""


@dataclass(frozen=True)
class OnnxOptions:
    """What the ONNX file of a model contains.

    Attributes:
        size: width and height in pixels of its images; a single number for squares, none for the model's own size.
        heads: outputs.
        compute: arithmetic of packed linear layers: ``float32``, or ``int8``, which rounds activations to 8 bits.
        check_frames: numbers of frames with which the file is run and compared with the model; none to skip it.

    Raises:
        QvggtError: a value is out of range.
    """

    size: tuple[int, ...] = ()
    heads: tuple[Head, ...] = ALL_HEADS
    compute: OnnxCompute = "float32"
    check_frames: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self.heads)
        check_choice("arithmetic", self.compute, OnnxCompute)
        if len(self.size) > 2 or min((1, *self.size)) < 1:
            raise QvggtError(f"the size must be a width, or a width and a height, got {self.size} (--size)")
        if min((1, *self.check_frames)) < 1:
            raise QvggtError(f"numbers of frames must be at least 1, got {self.check_frames} (--check-frames)")


@dataclass(frozen=True)
class FormatOptions:
    """What an exported reconstruction contains; a format ignores what does not concern it.

    Attributes:
        resolution: of the images beside a COLMAP model or ``transforms.json``.
        shared_camera: one camera (median focal lengths) for all images of one size.
        text: COLMAP's text files in place of its binary ones.
        max_points: most points; None for ``FORMAT_POINTS``.
        points_from: ``depth`` or ``head``; None for the source that the reconstruction used.
        drop_percent: percentage of pixels, the least confident, that yield no point; None for the reconstruction's.
        depth_files: file type of depth maps.
        keep_distortion: leave images distorted for which refinement found a distortion of the lens.
        seed: random seed of the choice of points.

    Raises:
        QvggtError: a value is out of range.
    """

    resolution: Resolution = "original"
    shared_camera: bool = False
    text: bool = False
    max_points: int | None = None
    points_from: PointsFrom | None = None
    drop_percent: float | None = None
    depth_files: DepthFiles = "png"
    keep_distortion: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("resolution", self.resolution, Resolution)
        check_choice("file type of depth", self.depth_files, DepthFiles)
        if self.points_from is not None:
            check_choice("source of points", self.points_from, PointsFrom)
        if self.max_points is not None and self.max_points < 1:
            raise QvggtError(f"the number of points must be at least 1, got {self.max_points} (--max-points)")
        if self.drop_percent is not None and not 0 <= self.drop_percent <= 100:
            raise QvggtError(
                f"the percentage of pixels to drop must be in 0..100, got {self.drop_percent} (--drop-percent)"
            )
