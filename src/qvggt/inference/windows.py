"""Long sequences in overlapping windows: each is aligned to the previous ones by a similarity transform (Sim(3)).

Memory is bounded by one window, and time grows linearly with the number of windows. Accuracy suffers because attention
is limited to a window, and because alignment errors accumulate along the sequence. Where the path returns, loops can be
closed (``WindowOptions.close_loops``).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from qvggt.inference.kept_windows import WindowsInFolder, WindowsInMemory, windows_key
from qvggt.inference.loops import LoopFinder, closed
from qvggt.inference.predict import predict
from qvggt.model import VGGT
from qvggt.options import ALL_HEADS, HEADS_FOR, Head, InferenceOptions
from qvggt.postprocess.pose_graph import Relation
from qvggt.postprocess.similarity import similarity, transformed
from qvggt.types import ImageSet, OnProgress, OnWindow, Prediction, QvggtError

log = logging.getLogger(__name__)


def check_window_heads(heads: Collection[Head]) -> None:
    """Raise ``QvggtError`` unless the heads include those that window alignment needs, camera and depth."""
    if not set(HEADS_FOR["depth"]) <= set(heads):
        raise QvggtError(
            f"window alignment needs the camera and depth heads, got {', '.join(heads) or 'none'}: "
            "enable both (--heads camera depth)"
        )


def predict_windows(
    model: VGGT,
    images: ImageSet,
    heads: Collection[Head] = ALL_HEADS,
    options: InferenceOptions = InferenceOptions(),
    on_progress: OnProgress | None = None,
    finite: bool = True,
    on_window: OnWindow | None = None,
    folder: Path | None = None,
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
        on_window: called with the new frames of each window, or once with all frames. They are those before loops are
            closed, which in memory overwrites them.
        folder: keeps the frames of several windows instead of memory. Windows that an earlier call finished there, with
            the same model, images and options, are not computed again.

    Raises:
        QvggtError: several windows are needed and the camera or depth head is not run, or ``finite`` is set and the
            prediction is not finite.
    """
    windows = options.windows
    if windows is None or len(images.names) <= windows.frames:
        part = _part(images, range(len(images.names)))
        found = predict(model, part, heads, options, on_progress=on_progress, finite=finite)
        if on_window is not None:
            on_window(found)
        return found
    check_window_heads(heads)
    ranges = windows.ranges(len(images.names))
    whole = WindowsInMemory(images)
    if folder is not None:
        whole = WindowsInFolder(images, folder, windows_key(model, images, heads, options))
    if whole.finished:
        log.info("going on after window %d of %d, which an earlier run finished", whole.finished, len(ranges))
    run = partial(predict, model, heads=HEADS_FOR["depth"], options=options, finite=finite)
    finder = LoopFinder(images, ranges, run) if windows.close_loops else None
    for index, window in enumerate(ranges):
        done = ranges[index - 1].stop if index else 0
        if index >= whole.finished:
            report = None if on_progress is None else _part_of(on_progress, index, len(ranges))
            found = predict(model, _part(images, window), heads, options, on_progress=report, finite=finite)
            shared = done - window.start
            if index:
                before = _frames(whole.prediction, window.start, done)
                found = transformed(found, similarity(before, _frames(found, 0, shared)))
            loop = _loop(finder, index, whole.prediction, found, first=window.start, report=report) if finder else None
            whole.add(done, _frames(found, shared, len(window)), loop)
        if on_window is not None:
            on_window(_frames(whole.prediction, done, window.stop))
    _close(whole, ranges)
    return whole.prediction


def _loop(
    finder: LoopFinder, index: int, whole: Prediction, found: Prediction, *, first: int, report: OnProgress | None
) -> Relation | None:
    """Return the loop that a window, aligned and starting with frame ``first``, closes; None if it closes none."""
    back = finder.find(index)
    if back is None:
        return None
    if report is not None:
        report(f"comparing with window {back.first + 1}", 1.0)
    earlier = _frames(whole, back.first_frames.start, back.first_frames.stop)
    later = _frames(found, back.second_frames.start - first, back.second_frames.stop - first)
    return finder.measure(back, earlier, later)


def _close(whole: WindowsInMemory, ranges: Sequence[range]) -> None:
    """Move each window's frames to where they have to be for the loops that were found to close."""
    if whole.loops:
        log.info("closing %s", "a loop" if len(whole.loops) == 1 else f"{len(whole.loops)} loops")
        starts = [0, *(window.stop for window in ranges[:-1])]
        whole.correct(starts, closed(whole.prediction, ranges, whole.loops))


def _part(images: ImageSet, frames: range) -> ImageSet:
    """Return some of the images, in memory."""
    chosen = slice(frames.start, frames.stop)
    return ImageSet(images.images[chosen], images.maps[chosen], images.names[chosen])


def _frames(prediction: Prediction, first: int, last: int) -> Prediction:
    values: dict[str, Any] = {field.name: getattr(prediction, field.name) for field in fields(Prediction)}
    part: dict[str, Any] = {name: None if value is None else value[first:last] for name, value in values.items()}
    return Prediction(**part)


def _part_of(on_progress: OnProgress, index: int, count: int) -> OnProgress:
    return lambda stage, share: on_progress(f"window {index + 1} of {count}, {stage}", (index + share) / count)
