"""The published evaluation protocols, by name: Scene + Prediction -> SceneResult.

Figures for one model differ by many points between protocols, so each has a name that every table states:

===================== ===========================================================================================
``pose-standard``     all pairs of frames, relative pose ``E_i E_j^-1``
``pose-vggt``         the same, with poses aligned to the first camera, ``E'_i^-1 E'_j``
``depth-scale``       one scale per sequence; ``depth-scale_shift`` and ``depth-median`` likewise
``depth-scale-image`` one scale per image (monocular depth); the other two likewise
``points-crop224``    point head, coarse alignment by medians, center crop of 224 pixels, ICP
``points-umeyama``    depth head unprojected with the predicted cameras, Umeyama, ICP
``points-consistent`` point head against ground truth, and against depth and camera, relative to the scene's size
===================== ===========================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from qvggt.eval.fidelity import fidelity, fidelity_result
from qvggt.eval.ground_truth import check_frames, require, true_mask
from qvggt.eval.metrics.depth import DepthAlignment, depth_errors, depth_errors_per_image, resize_bicubic
from qvggt.eval.metrics.pose import PairErrors, PoseVariant, pose_errors
from qvggt.eval.point_protocols import ConsistencyProtocol, PointProtocol, measure_consistency, measure_points
from qvggt.eval.results import SceneResult
from qvggt.types import Prediction, QvggtError, Scene


@dataclass(frozen=True)
class PoseProtocol:
    """Errors of relative poses over all pairs of frames.

    Attributes:
        variant: ``standard`` or ``vggt``.
    """

    variant: PoseVariant = "standard"

    @property
    def name(self) -> str:
        """Name in tables and on the command line."""
        return f"pose-{self.variant}"


@dataclass(frozen=True)
class DepthProtocol:
    """AbsRel and delta1 of aligned depth.

    Attributes:
        alignment: ``scale``, ``scale_shift`` or ``median``.
        per: align and measure each ``sequence`` at once (video) or each ``image`` on its own (monocular).
    """

    alignment: DepthAlignment = "scale"
    per: Literal["sequence", "image"] = "sequence"

    @property
    def name(self) -> str:
        """Name in tables and on the command line."""
        return f"depth-{self.alignment}" + ("-image" if self.per == "image" else "")


Protocol = PoseProtocol | DepthProtocol | PointProtocol | ConsistencyProtocol

_ALL: tuple[Protocol, ...] = (
    PoseProtocol("standard"),
    PoseProtocol("vggt"),
    *(DepthProtocol(a, per) for per in ("sequence", "image") for a in ("scale", "scale_shift", "median")),
    PointProtocol("crop224"),
    PointProtocol("crop224", points_from="depth"),
    PointProtocol("umeyama"),
    PointProtocol("umeyama", points_from="point"),
    ConsistencyProtocol(),
)
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({protocol.name: protocol for protocol in _ALL})
"""Every protocol with its default options, by name."""


def measure(scene: Scene, prediction: Prediction, protocols: Sequence[Protocol]) -> SceneResult:
    """Score one prediction.

    A scene without ground truth for a metric (no valid depth, one frame) gets NaN and a note; a prediction that is not
    finite gets the worst score and a note.

    Args:
        scene: with the ground truth that the protocols need, for exactly the frames of the prediction.
        prediction: with the heads that the protocols need.
        protocols: at most one of a kind.

    Raises:
        QvggtError: ground truth or a head is missing, or two protocols report the same metric.
        ValueError: the numbers of frames differ.
    """
    pairs, values, notes, reporter = PairErrors(np.empty(0), np.empty(0)), {}, [], {}
    for protocol in protocols:
        if isinstance(protocol, PoseProtocol):
            pairs, note = _measure_pose(scene, prediction, protocol)
            found, keys = {}, ["auc"]
        else:
            found, note = _measure_values(scene, prediction, protocol)
            keys = list(found)
        for key in keys:
            if key in reporter:
                raise QvggtError(
                    f"{reporter[key]} and {protocol.name} report the same metric: evaluate them in two runs "
                    "(--protocol)"
                )
            reporter[key] = protocol.name
        values |= found
        notes += [f"{protocol.name}: {note}"] if note else []
    return SceneResult(
        scene=scene.name,
        group=scene.group,
        protocols=tuple(protocol.name for protocol in protocols),
        frames=len(scene.images),
        rotation_deg=tuple(pairs.rotation_deg.tolist()),
        translation_deg=tuple(pairs.translation_deg.tolist()),
        values=values,
        notes=tuple(notes),
        cameras=_rows_of(prediction.cam_from_world),
    )


def measure_fidelity(scene: Scene, reference: Prediction, other: Prediction) -> SceneResult:
    """Score a quantized model's prediction against the float model's (``reference``) on the same images."""
    far = fidelity(reference, other)
    if not far.means():
        raise QvggtError(f"the predictions of {scene.name} share no head: run the same heads of both models")
    return fidelity_result(scene.name, scene.group, len(scene.images), far)


def _rows_of(cameras: np.ndarray | None) -> tuple[tuple[float, ...], ...]:
    return () if cameras is None else tuple(map(tuple, cameras.reshape(len(cameras), -1).tolist()))


def _measure_values(scene: Scene, prediction: Prediction, protocol: Protocol) -> tuple[dict[str, float], str]:
    if isinstance(protocol, DepthProtocol):
        return _measure_depth(scene, prediction, protocol)
    if isinstance(protocol, PointProtocol):
        return measure_points(scene, prediction, protocol)
    if isinstance(protocol, ConsistencyProtocol):
        return measure_consistency(scene, prediction)
    raise TypeError(f"expected a protocol, got {protocol!r}")


def _measure_pose(scene: Scene, prediction: Prediction, protocol: PoseProtocol) -> tuple[PairErrors, str]:
    truth = require(scene.cam_from_world, scene, "true cameras", protocol.name)
    predicted = require(prediction.cam_from_world, scene, "predicted cameras", protocol.name)
    check_frames(predicted, truth, scene)
    errors = pose_errors(predicted, truth, protocol.variant)
    if not errors.rotation_deg.size:
        return errors, "one frame makes no pair"
    broken = int(np.isnan(errors.joint_deg).sum())
    return errors, f"{broken} pairs are not finite and count as wrong" if broken else ""


def _measure_depth(scene: Scene, prediction: Prediction, protocol: DepthProtocol) -> tuple[dict[str, float], str]:
    truth = require(scene.depth, scene, "true depth", protocol.name)
    predicted = require(prediction.depth, scene, "predicted depth", protocol.name)
    check_frames(predicted, truth, scene)
    mask = true_mask(scene)
    predicted = resize_bicubic(predicted, truth.shape[1:])
    if protocol.per == "image":
        images = depth_errors_per_image(predicted, truth, mask, protocol.alignment)
        measured = [image for image in images if not np.isnan(image.absrel)]
    else:
        measured = [depth_errors(predicted, truth, mask, protocol.alignment)] if mask.any() else []
    if not measured:
        return {"absrel": float("nan"), "delta1": float("nan")}, "no valid true depth"
    names = asdict(measured[0])
    values = {name: float(np.mean([getattr(errors, name) for errors in measured])) for name in names}
    return values, "" if np.isfinite(values["absrel"]) else "predicted depth is not finite"
