"""Long sequences in overlapping windows: each is aligned to the previous ones by a similarity transform (Sim(3)).

Memory is bounded by one window, and time grows linearly with the number of windows. Accuracy suffers because attention
is limited to a window, and because alignment errors accumulate along the sequence.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

import numpy as np

from qvggt.inference.predict import predict
from qvggt.model import VGGT
from qvggt.options import ALL_HEADS, HEADS_FOR, Head, InferenceOptions
from qvggt.postprocess.similarity import similarity, transformed
from qvggt.types import ImageSet, OnProgress, OnWindow, Prediction, QvggtError

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
    on_window: OnWindow | None = None,
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
        on_window: called with the new frames of each window, or once with all frames.

    Raises:
        QvggtError: several windows are needed and the camera or depth head is not run, or ``finite`` is set and the
            prediction is not finite.
    """
    windows = options.windows
    if windows is None or len(images.names) <= windows.frames:
        found = predict(model, images, heads, options, on_progress=on_progress, finite=finite)
        if on_window is not None:
            on_window(found)
        return found
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
        added = _frames(found, shared, len(window))
        _write(whole, done, added)
        done = window.stop
        if on_window is not None:
            on_window(added)
    assert whole is not None
    return whole


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


def _part_of(on_progress: OnProgress, index: int, count: int) -> OnProgress:
    return lambda stage, share: on_progress(f"window {index + 1} of {count}, {stage}", (index + share) / count)
