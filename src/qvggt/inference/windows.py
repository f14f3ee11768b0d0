"""Long sequences in overlapping windows: each is aligned to the previous ones by a similarity transform (Sim(3)).

Memory is bounded by one window, and time grows linearly with the number of windows. Accuracy suffers because attention
is limited to a window, and because alignment errors accumulate along the sequence.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from qvggt import geometry
from qvggt.geometry import Similarity
from qvggt.inference.predict import predict
from qvggt.model import VGGT
from qvggt.options import ALL_HEADS, HEADS_FOR, Head, InferenceOptions
from qvggt.types import ImageSet, OnProgress, Prediction, QvggtError

_FROM_IMAGES = ("images", "names", "maps")
"""Fields of a prediction that are copied from its images."""


def check_window_heads(heads: Collection[Head]) -> None:
    """Raise ``QvggtError`` unless the heads include those that window alignment needs, camera and depth."""
    if not set(HEADS_FOR["depth"]) <= set(heads):
        raise QvggtError(
            f"window alignment needs the camera and depth heads, got {', '.join(heads) or 'none'}: enable both"
        )


def predict_windows(
    model: VGGT,
    images: ImageSet,
    heads: Collection[Head] = ALL_HEADS,
    options: InferenceOptions = InferenceOptions(),
    on_progress: OnProgress | None = None,
    finite: bool = True,
) -> Prediction:
    """Reconstruct a sequence window by window, in the frame and unit of the first window.

    Args:
        model: float or quantized.
        images: of the sequence.
        heads: which heads to run.
        options: windows, and how much of each is processed at a time. Without windows, and if all frames fit in one,
            the sequence is processed at once.
        on_progress: the progress callback.
        finite: whether to raise if the prediction is not finite.

    Raises:
        QvggtError: several windows are needed and the camera or depth head is not run, or ``finite`` is set and the
            prediction is not finite.
    """
    windows = options.windows
    if windows is None or len(images.names) <= windows.frames:
        return predict(model, images, heads, options, on_progress=on_progress, finite=finite)
    check_window_heads(heads)
    ranges = windows.ranges(len(images.names))
    whole: Prediction | None = None
    done = 0
    for index, window in enumerate(ranges):
        part = ImageSet(
            images.images[window.start : window.stop],
            images.maps[window.start : window.stop],
            images.names[window.start : window.stop],
        )
        report = None if on_progress is None else _part_of(on_progress, index, len(ranges))
        found = predict(model, part, heads, options, on_progress=report, finite=finite)
        shared = done - window.start
        if whole is None:
            whole = _allocate(found, images)
        else:
            found = transformed(found, similarity(_frames(whole, window.start, done), _frames(found, 0, shared)))
        _write(whole, done, _frames(found, shared, len(window)))
        done = window.stop
    assert whole is not None
    return whole


def similarity(wanted: Prediction, found: Prediction) -> Similarity:
    """Return the similarity transform that maps one reconstruction of some frames to another.

    The scale is the median ratio of depths, over pixels of at least median confidence in both. Rotation and translation
    are averages over frames, each of which determines both by its camera.
    """
    sure = np.ones_like(_present(wanted.depth), dtype=bool)  # [S, H, W]
    for each in (wanted, found):
        confidence = _present(each.depth_conf)
        sure &= confidence >= np.median(confidence, axis=(1, 2), keepdims=True)
    scale = (
        float(np.median((_present(wanted.depth) / np.maximum(_present(found.depth), 1e-9))[sure]))
        if sure.any()
        else 1.0
    )
    ours, theirs = (torch.from_numpy(_present(each.cam_from_world)).double() for each in (wanted, found))
    back = ours[:, :, :3].transpose(1, 2)  # [S, 3, 3]
    total = (back @ theirs[:, :, :3]).sum(0)
    left, _, right = torch.linalg.svd(total)
    flip = torch.diag(
        torch.tensor([1.0, 1.0, float(torch.det(left @ right).sign())], dtype=total.dtype, device=total.device)
    )
    translation = (back @ (scale * theirs[:, :, 3:] - ours[:, :, 3:])).mean(0)[:, 0]
    return Similarity(scale, (left @ flip @ right).numpy(), translation.numpy())


def transformed(prediction: Prediction, by: Similarity) -> Prediction:
    """Return a reconstruction whose world is mapped by a similarity transform."""
    cameras = _present(prediction.cam_from_world).astype(np.float64)
    rotation = cameras[:, :, :3] @ by.rotation.T
    translation = by.scale * cameras[:, :, 3:] - rotation @ by.translation[:, None]
    moved = torch.from_numpy(np.concatenate((rotation, translation), 2)).float()  # [S, 3, 4]
    depth = _present(prediction.depth) * np.float32(by.scale)
    intrinsics = torch.from_numpy(_present(prediction.intrinsics))
    size = (depth.shape[1], depth.shape[2])
    points = prediction.world_points
    return replace(
        prediction,
        cam_from_world=moved.numpy(),
        pose_enc=geometry.cameras_to_pose_encoding(moved, intrinsics, size).numpy(),
        depth=depth,
        world_points=None if points is None else by.apply(points).astype(np.float32),
    )


def _allocate(window: Prediction, images: ImageSet) -> Prediction:
    """Return a prediction for all images with the fields of a window's, their values not yet set."""
    names = [field.name for field in fields(Prediction) if field.name not in _FROM_IMAGES]
    values = {name: getattr(window, name) for name in names}
    empty = {
        name: None if value is None else np.empty((len(images.names), *value.shape[1:]), value.dtype)
        for name, value in values.items()
    }
    return Prediction(images.images, images.names, images.maps, **empty)


def _write(whole: Prediction, start: int, window: Prediction) -> None:
    """Copy a window's prediction into that of all frames, from frame ``start`` on."""
    for field in fields(Prediction):
        value = getattr(window, field.name)
        if value is not None and field.name not in _FROM_IMAGES:
            getattr(whole, field.name)[start : start + len(window.names)] = value


def _frames(prediction: Prediction, first: int, last: int) -> Prediction:
    values: dict[str, Any] = {field.name: getattr(prediction, field.name) for field in fields(Prediction)}
    part: dict[str, Any] = {name: None if value is None else value[first:last] for name, value in values.items()}
    return Prediction(**part)


def _present(values: np.ndarray | None) -> np.ndarray:
    assert values is not None
    return values


def _part_of(on_progress: OnProgress, index: int, count: int) -> OnProgress:
    return lambda stage, share: on_progress(f"window {index + 1} of {count}, {stage}", (index + share) / count)
