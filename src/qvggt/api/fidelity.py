"""The public verb ``fidelity``: differences of two models' predictions on photographs, without ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qvggt.api.reconstruct import load
from qvggt.checkpoint.folder import CARD, Checkpoint, is_checkpoint, open_checkpoint
from qvggt.checkpoint.open import open_model
from qvggt.data.demonstration import warn_of_photographs
from qvggt.eval.fidelity import Fidelity
from qvggt.eval.fidelity import fidelity as differences_between
from qvggt.images.preprocess import load_images
from qvggt.images.sources import ImageSource
from qvggt.inference.predict import predict
from qvggt.model import VGGT, VGGTConfig
from qvggt.options import REFERENCE_COMPUTE, Compute, ImageMode, ImageOptions, InferenceOptions, RunOptions
from qvggt.options.checks import check_arguments
from qvggt.postprocess.frames import photo_mask
from qvggt.types import ImageSet, OnProgress, PathLike, Prediction, QvggtError
from qvggt.weights.hub import hub_origin

_IN_MEMORY = "a model in memory"


@dataclass(frozen=True, eq=False)
class Measure:
    """One kind of difference between two models.

    Attributes:
        key: its name with its unit, e.g. ``depth_percent``.
        title: what is compared, in words; a translation by its direction.
        unit: ``deg`` or ``%``.
        values: [S] one a frame; NaN where there is nothing to compare.
        mean: over the frames that have a value; NaN where none has.
    """

    key: str
    title: str
    unit: str
    values: np.ndarray
    mean: float


@dataclass(frozen=True)
class FidelityReport:
    """Differences of two models' predictions on the same images.

    Attributes:
        model: name of the reference model, as given.
        other: name of the model that is compared with it.
        differences: per frame; the points' are those of the point head.
        prediction: of ``model``.
        other_prediction: of ``other``.
    """

    model: str
    other: str
    differences: Fidelity
    prediction: Prediction
    other_prediction: Prediction

    @property
    def names(self) -> tuple[str, ...]:
        """The frames' names."""
        return self.prediction.names

    @property
    def short_names(self) -> tuple[str, str]:
        """The last parts of both models' names, or the whole names where those are the same."""
        whole = self.model, self.other
        model, other = (Path(name).name or name for name in whole)
        return (model, other) if model != other else whole

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The camera head's rotation and translation, the depth head's depth and the point head's points."""
        far, means = self.differences, self.differences.means()
        kinds = (
            ("rotation_deg", "camera rotation", "deg", far.rotation_deg, "fidelity_rotation_deg"),
            ("translation_deg", "camera translation", "deg", far.translation_deg, "fidelity_translation_deg"),
            ("depth_percent", "depth", "%", far.depth_rel, "fidelity_depth_rel"),
            ("point_percent", "points", "%", far.point_rel, "fidelity_point_rel"),
        )
        measures = []
        for key, title, unit, values, name in kinds:
            assert values is not None  # every head was run
            factor = 100 if unit == "%" else 1
            # A percentage is undefined if all points of the first model lie at the origin.
            defined = np.where(np.isfinite(values), values, np.nan)
            mean = factor * means[name] if np.isfinite(means[name]) else float("nan")
            measures.append(Measure(key, title=title, unit=unit, values=factor * defined, mean=mean))
        return tuple(measures)

    @property
    def auc(self) -> dict[str, float]:
        """Pose AUC of ``other`` over all pairs of frames, with the cameras of ``model`` as the truth, 0..100.

        Keyed ``auc30``, ``auc15``, ``auc5`` and ``auc3``; NaN for a single image.
        """
        return self.differences.auc()

    @property
    def pairs(self) -> int:
        """Number of pairs of frames."""
        return len(self.names) * (len(self.names) - 1) // 2

    @property
    def typical_frame(self) -> int:
        """The frame of median depth difference (the lower one of an even number)."""
        depth = self.differences.depth_rel
        assert depth is not None
        return int(np.argsort(depth, kind="stable")[(len(depth) - 1) // 2])

    def in_words(self) -> str:
        """Return the means as a sentence, with the image of the largest difference."""
        (model, other), count = self.short_names, len(self.names)
        rotation, translation, depth, points = self.measures
        said, why_not = [], ""
        if np.isfinite(rotation.mean):
            said.append(f"cameras are turned by {rotation.mean:.2f} deg")
        else:
            why_not = "; cameras cannot be compared on one image, for the first one is each model's origin"
        if np.isfinite(translation.mean):
            said.append(f"their translations point {translation.mean:.2f} deg away")
        elif count > 1:
            why_not = f"; translations cannot be compared, for {model} sees no motion"
        said += [f"{each.title} differ{verb} by {each.mean:.2f} %" for each, verb in ((depth, "s"), (points, ""))
                 if np.isfinite(each.mean)]  # fmt: skip
        sentence = f"{other} against {model} on {count} image{'s' * (count != 1)}: " + _listed(said)
        if count > 1 and np.isfinite(depth.mean):
            worst = int(np.nanargmax(depth.values))
            sentence += f" on average; depth differs most in {self.names[worst]}, by {depth.values[worst]:.2f} %"
        return sentence + why_not

    def for_card(self, device: str, compute: Compute) -> tuple[str, str]:
        """Return the means as a table for a model card, and the conditions under which they were measured."""
        known = [each for each in self.measures if np.isfinite(each.mean)]
        rows = "\n".join(
            [f"| {each.title} | {each.mean:.2f} {each.unit} |" for each in known]
            + [f"| pose AUC@{name[3:]} | {value:.1f} |" for name, value in self.auc.items() if np.isfinite(value)]
        )
        height, width = self.prediction.images.shape[-2:]
        return (
            f"| mean difference from {self.short_names[0]} | |\n|---|--:|\n{rows}",
            f"Measured on {len(self.names)} photographs of {width}x{height} px with compute `{compute}` on `{device}`: "
            "angles between the cameras relative to the first one, relative differences of depth, distances of points "
            "relative to their mean distance from the origin, and pose AUC over all pairs with the cameras of "
            f"{self.short_names[0]} in {REFERENCE_COMPUTE} as the truth.",
        )

    def to_json(self) -> dict[str, Any]:
        """Return names and figures as JSON-ready values; what cannot be compared is None."""
        height, width = self.prediction.images.shape[-2:]
        per_frame = {each.key: [_or_none(value) for value in each.values] for each in self.measures}
        return {
            "model": self.model,
            "other": self.other,
            "frames": len(self.names),
            "height_px": height,
            "width_px": width,
            "means": {each.key: _or_none(each.mean) for each in self.measures},
            "pairs": self.pairs,
            "auc": {name: _or_none(value) for name, value in self.auc.items()},
            "per_frame": {"names": list(self.names), **per_frame},
        }


def fidelity(
    model: VGGT | PathLike,
    other: VGGT | PathLike,
    images: ImageSource,
    mode: ImageMode = ImageOptions.mode,
    fps: float | None = None,
    frames: int | None = None,
    device: str = RunOptions.device,
    dense_frames: int = InferenceOptions.dense_frames,
    on_progress: OnProgress | None = None,
    revision: str | None = None,
    compute: Compute = RunOptions.compute,
) -> FidelityReport:
    """Measure how far two models' predictions differ on photographs of one scene, or a video: per head and frame.

    Models given by name are loaded one after the other, never together. Cameras are compared relative to the first
    frame, so they need at least two; depth and points are compared without alignment, in the models' own unit, on the
    photographs but not on the padding around them. Pose AUC is over all pairs of frames, with the first model's cameras
    as the truth. That model computes in float32, if it is given by name: comparing a model with itself in ``bfloat16``
    says what half precision alone costs.

    Args:
        model: the model to compare with, usually the float one: a model, or whatever ``load`` takes.
        other: the model to compare, usually a quantized one.
        images: folder, glob, video, image, or a list of image paths, PIL images, arrays or tensors (RGB, uint8 or
            0..1); read once.
        mode: ``crop`` or ``pad``; see ``ImageOptions``.
        fps: frames per second to sample from a video.
        frames: most frames to take, evenly spaced.
        device: where models given by name run.
        dense_frames: most frames that the dense heads process at a time: fewer need less memory.
        on_progress: called with the stage and the share done of both models' work.
        revision: branch, tag or commit of ``model``, if it is a hub id.
        compute: arithmetic of products of ``other``, if it is given by name; see ``load``.

    Raises:
        QvggtError: a model or the images cannot be read, the models take images of different size or patch, or an
            prediction is not finite.
    """
    check_arguments(fidelity, locals())
    run = RunOptions(device=device, compute=compute, dense_frames=dense_frames)
    report = on_progress or (lambda stage, share: None)
    report("reading images", 0.0)
    config = _common_input(model, other, revision)
    size, patch = config.image_size, config.patch_size
    warn_of_photographs(config, images)
    pictures = load_images(images, ImageOptions(size, patch, mode, fps=fps, frames=frames))
    reference = replace(run, compute=REFERENCE_COMPUTE)
    ours = _predict(model, pictures, reference, _half(report, 0), revision=revision)
    theirs = _predict(other, pictures, run, _half(report, 1))
    far = differences_between(ours, theirs, photo_mask(ours))
    return FidelityReport(_name(model), other=_name(other), differences=far, prediction=ours, other_prediction=theirs)


def open_for_card(model: PathLike) -> Checkpoint:
    """Open a checkpoint whose card is to be written: call it before a long computation.

    Raises:
        QvggtError: it is not a quantized checkpoint in a folder of the user's.
    """
    if not is_checkpoint(model) or hub_origin(Path(model) / CARD):  # files in the hub's cache are not ours to change
        raise QvggtError(f"--card writes to the folder of a quantized checkpoint, and {str(model)!r} is none")
    return open_checkpoint(model)


def _predict(
    model: VGGT | PathLike,
    pictures: ImageSet,
    run: RunOptions,
    on_progress: OnProgress,
    revision: str | None = None,
) -> Prediction:
    """Load a model given by name, run all of its heads, and release it."""
    name = _name(model)
    short = Path(name).name
    on_progress(f"loading {short}", 0.0)
    network = model if isinstance(model, VGGT) else load(model, run.device, run.compute, revision)
    try:
        return predict(
            network,
            pictures,
            options=run.inference,
            on_progress=lambda stage, share: on_progress(f"{short}, {stage}", share),
        )
    except QvggtError as error:
        raise QvggtError(f"{name} cannot be compared: {error}") from None


def _half(report: OnProgress, done: int) -> OnProgress:
    """Map progress of one model to that of both, ``done`` of which are finished."""
    return lambda stage, share: report(stage, (done + share) / 2)


def _common_input(model: VGGT | PathLike, other: VGGT | PathLike, revision: str | None) -> VGGTConfig:
    """Return the architecture of the first of two models, which take the same images."""
    ours, theirs = _config(model, revision), _config(other)
    size, patch = ours.image_size, ours.patch_size
    if (theirs.image_size, theirs.patch_size) != (size, patch):
        raise QvggtError(
            f"{_name(model)} takes images of {size} px in patches of {patch} px and {_name(other)} of "
            f"{theirs.image_size} px in patches of {theirs.patch_size} px: compare models that take the same images"
        )
    return ours


def _config(model: VGGT | PathLike, revision: str | None = None) -> VGGTConfig:
    """Return a model's architecture, read from its files where it is not in memory."""
    if isinstance(model, VGGT):
        return model.config
    return open_model(model, revision).config


def _name(model: VGGT | PathLike) -> str:
    return _IN_MEMORY if isinstance(model, VGGT) else str(model)


def _listed(parts: Sequence[str]) -> str:
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else "".join(parts)


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
