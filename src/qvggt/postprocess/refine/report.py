"""What a refinement measured and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from qvggt.postprocess.refine.accept import errors_px
from qvggt.postprocess.refine.tracks import Tracks
from qvggt.postprocess.refine.views import Views
from qvggt.types import Prediction

Kept = Literal["all", "poses", "focal", "none"]


@dataclass(frozen=True)
class Outcome:
    """Accepted cameras.

    Attributes:
        views: the old ones where nothing was accepted.
        kept: which part of the cameras changed.
        frames: [S] bool, whose cameras changed.
        lenses: with the distortion that the adjustment allowed for in these frames; see ``Views``.
        note: why none did; empty otherwise.
    """

    views: Views
    kept: Kept
    frames: np.ndarray
    lenses: Views
    note: str = ""

    @classmethod
    def unchanged(cls, views: Views, note: str) -> Outcome:
        """Return the outcome that nothing was accepted, and why."""
        return cls(views, "none", np.zeros(len(views), bool), views, note=note)


@dataclass(frozen=True)
class FrameReport:
    """One frame of a refinement.

    Attributes:
        name: of the frame.
        refined: whether its camera changed.
        observations: features of the frame in tracks, those held out included.
        held_out: of them, held out.
        error_before_px: median reprojection error of held-out observations, in pixels of the photograph; None without.
        error_after_px: the same with the refined cameras.
        rotation_deg: change of its rotation.
        focal_percent: change of its focal length.
        radial_distortion: k of its lens in r (1 + k r^2), for which the adjustment allowed; the camera is a pinhole.
        lens_focal_px: focal lengths of that lens in x and y, in pixels of the photograph; None without distortion.
        depth_scale: factor of its depth map.
    """

    name: str
    refined: bool
    observations: int
    held_out: int
    error_before_px: float | None
    error_after_px: float | None
    rotation_deg: float
    focal_percent: float
    radial_distortion: float
    lens_focal_px: tuple[float, float] | None
    depth_scale: float


@dataclass(frozen=True)
class RefineReport:
    """What a refinement measured and kept.

    Attributes:
        kept: which part of the cameras changed: ``all``, ``poses``, ``focal`` (lengths) or ``none``.
        note: why nothing changed, or nothing but depth; empty otherwise.
        tracks: points that the adjustment saw.
        held_out_tracks: points that judged it.
        error_before_px: median reprojection error of held-out observations, in pixels of the photographs; None without.
        error_after_px: the same with the refined cameras, which are pinholes.
        error_undistorted_px: the same with the distortion of their lenses; None if they have none.
        frames: one for each frame.
    """

    kept: Kept
    note: str
    tracks: int
    held_out_tracks: int
    error_before_px: float | None
    error_after_px: float | None
    error_undistorted_px: float | None
    frames: tuple[FrameReport, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)


def summary(report: Mapping[str, Any]) -> list[str]:
    """Return what happened in sentences, from a report as JSON: the ``refinement`` of a result's details."""
    frames = report["frames"]
    left = [frame["name"] for frame in frames if not frame["refined"]]
    if report["kept"] == "none":
        return [report["note"]]
    what = {"all": "cameras", "poses": "poses", "focal": "focal lengths"}[report["kept"]]
    before, after = report["error_before_px"], report["error_after_px"]
    lines = [
        f"refined the {what} of {len(frames) - len(left)} of {len(frames)} frames: reprojection error of held-out "
        f"matches {before:.2f} -> {after:.2f} px"
    ]
    bent = [frame["radial_distortion"] for frame in frames if frame.get("lens_focal_px")]
    if bent:
        with_it = report.get("error_undistorted_px")
        error = "" if with_it is None else f", with which the error is {with_it:.2f} px"
        lines.append(
            f"lens distortion of {np.median(bent):.3g} in {len(bent)} frames, in r (1 + k r^2){error}: exports "
            "undistort images and points"
        )
    return [*lines, f"cameras kept, as matches do not determine better ones: {', '.join(left)}"] if left else lines


def make_report(
    prediction: Prediction,
    sizes: Sequence[tuple[int, int]],
    old: Views,
    split: tuple[Tracks, Tracks],
    outcome: Outcome,
    scales: np.ndarray,
) -> RefineReport:
    """Return the report of an outcome, with errors in pixels of the photographs."""
    fitted, held_out = split
    count = len(old)
    enlarged = np.array([f.original_size[0] / size[0] for f, size in zip(prediction.maps, sizes, strict=True)])
    before, after = (errors_px(views, held_out) * enlarged[held_out.frame] for views in (old, outcome.views))
    seen, judged = fitted.frame_counts(count), held_out.frame_counts(count)
    turned = np.einsum("sij,sij->s", old.cam_from_world[:, :, :3], outcome.views.cam_from_world[:, :, :3])
    rotation_deg = np.degrees(np.arccos(np.clip((turned - 1) / 2, -1, 1))) * outcome.frames
    focal_percent = 100 * (outcome.views.focal / old.focal - 1).mean(1)
    radial = np.round(outcome.lenses.radial * outcome.frames, 6)
    focal = np.where(outcome.frames[:, None], outcome.lenses.focal, outcome.views.focal)
    lenses = replace(outcome.views, focal=focal, radial=radial)
    frames = tuple(
        FrameReport(
            name=prediction.names[index],
            refined=bool(outcome.frames[index]),
            observations=int(seen[index] + judged[index]),
            held_out=int(judged[index]),
            error_before_px=_median(before[held_out.frame == index]),
            error_after_px=_median(after[held_out.frame == index]),
            rotation_deg=round(float(rotation_deg[index]), 6),
            focal_percent=round(float(focal_percent[index]), 6),
            radial_distortion=float(radial[index]),
            lens_focal_px=_lens_focal(outcome.lenses.focal[index], f.original_size, size) if radial[index] else None,
            depth_scale=round(float(scales[index]), 6),
        )
        for index, (f, size) in enumerate(zip(prediction.maps, sizes, strict=True))
    )
    return RefineReport(
        kept=outcome.kept,
        note=outcome.note,
        tracks=fitted.count,
        held_out_tracks=held_out.count,
        error_before_px=_median(before),
        error_after_px=_median(after),
        error_undistorted_px=_median(errors_px(lenses, held_out) * enlarged[held_out.frame]) if radial.any() else None,
        frames=frames,
    )


def _lens_focal(focal: np.ndarray, original: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    """Return focal lengths [2] of a searched image of ``size`` in pixels of the photograph."""
    x, y = (round(float(value), 4) for value in focal * original / np.array(size))
    return x, y


def _median(values: np.ndarray) -> float | None:
    return round(float(np.median(values)), 4) if len(values) else None
