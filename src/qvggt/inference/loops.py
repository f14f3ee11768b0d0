"""Loops of a long sequence: windows to which the path returns are measured against each other by passes of the model.

A loop is closed only if that is better than leaving it open: two passes over different frames of both windows have to
agree that the camera is back at the same place, and on how far the windows have drifted apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from qvggt.geometry import Similarity
from qvggt.postprocess.covisibility import covisibility
from qvggt.postprocess.frames import camera_centers, cameras_of, chosen_frames
from qvggt.postprocess.pose_graph import IDENTITY, Relation, difference, halfway, solve_pose_graph
from qvggt.postprocess.returning_frames import Return, appearance, find_return
from qvggt.postprocess.similarity import similarity
from qvggt.types import ImageSet, Prediction

_SEEN, _NEAR, _TURNED_DEG = 0.7, 0.2, 10.0
"""The camera is back if two frames see this share of each other, from places that are no farther apart than this share
of the scene's depth, in directions that differ by no more than this angle."""
_SURE = 1.0
"""Largest difference between the corrections that two passes measure, as a share of the smaller one."""
_DEVIATION = 0.5
"""Of a measured loop, in units of that of neighboring windows."""

Pass = Callable[[ImageSet], Prediction]
"""Reconstructs some images at once."""


class LoopFinder:
    """Finds and measures returns to earlier windows.

    Args:
        images: of the sequence.
        windows: frames of each window.
        run: called with frames of two windows, no more than one window has.
    """

    def __init__(self, images: ImageSet, windows: Sequence[range], run: Pass) -> None:
        self._images, self._windows, self._run = images, windows, run
        self._vectors: list[np.ndarray] = []

    def find(self, index: int) -> Return | None:
        """Return which frames of a window look like those of an earlier one, if there are any."""
        window = self._windows[index]
        for frame in range(len(self._vectors), window.stop):
            self._vectors.append(appearance(self._images.images[frame : frame + 1])[0])
        return find_return(np.stack(self._vectors), self._windows, index, 2 * max(1, len(window) // 4))

    def measure(self, back: Return, earlier: Prediction, later: Prediction) -> Relation | None:
        """Return how far two windows have drifted apart, or None if that is not sure.

        Args:
            back: the frames to compare.
            earlier: ``back.first_frames`` as they were aligned.
            later: ``back.second_frames`` as they were aligned.
        """
        corrections = []
        for offset in (0, 1):
            correction = self._compare(back, earlier, later, offset)
            if correction is None:
                return None
            corrections.append(correction)
        center, length = _place(later)
        size = min(np.linalg.norm(difference(each, IDENTITY, center, length)) for each in corrections)
        if np.linalg.norm(difference(corrections[1], corrections[0], center, length)) > _SURE * size:
            return None
        correction = halfway(corrections[0], corrections[1], center)
        return Relation(back.first, back.second, correction, center, length=length, deviation=_DEVIATION)

    def _compare(self, back: Return, earlier: Prediction, later: Prediction, offset: int) -> Similarity | None:
        """Return what moves the later window to where it fits the earlier one, by a pass over every second frame.

        None if the pass does not show the camera back at the same place.
        """
        frames = back.first_frames[offset::2], back.second_frames[offset::2]
        found, count = self._run(chosen_frames(self._images, [*frames[0], *frames[1]])), len(frames[0])
        if not _is_back(found, count):
            return None
        parts = range(count), range(count, len(found.names))
        to_earlier, to_later = (
            similarity(chosen_frames(wanted, range(offset, len(wanted.names), 2)), chosen_frames(found, part))
            for wanted, part in zip((earlier, later), parts, strict=True)
        )
        return to_earlier @ to_later.inverse


def _is_back(found: Prediction, count: int) -> bool:
    """Return whether any of the first ``count`` frames sees the same as one of the others, from the same place."""
    cameras = cameras_of(found)[0]
    seen = covisibility(found)
    both = np.minimum(seen, seen.T)[:count, count:]
    assert found.depth is not None
    center, forward = camera_centers(cameras), cameras[:, 2, :3]
    distance = np.linalg.norm(center[:count, None] - center[None, count:], axis=2) / np.median(found.depth)
    turn = np.degrees(np.arccos(np.clip(forward[:count] @ forward[count:].T, -1, 1)))
    return bool(((both >= _SEEN) & (distance <= _NEAR) & (turn <= _TURNED_DEG)).any())


def _place(part: Prediction) -> tuple[np.ndarray, float]:
    """Return the middle [3] of some frames' cameras, and the median depth that they see."""
    assert part.depth is not None
    return camera_centers(cameras_of(part)[0]).mean(0), float(np.median(part.depth))


def closed(prediction: Prediction, windows: Sequence[range], loops: Sequence[Relation]) -> list[Similarity]:
    """Return the correction of each window with which measured loops are closed.

    Args:
        prediction: all frames, in windows that were aligned one to the next.
        windows: frames of each.
        loops: see ``LoopFinder.measure``.
    """
    centers = camera_centers(cameras_of(prediction)[0])
    relations = list(loops)
    for index, (before, after) in enumerate(itertools.pairwise(windows)):
        center, length = _place(chosen_frames(prediction, range(after.start, before.stop)))
        relations.append(Relation(index, index + 1, IDENTITY, center, length=length))
    return solve_pose_graph(np.stack([centers[window].mean(0) for window in windows]), relations)
