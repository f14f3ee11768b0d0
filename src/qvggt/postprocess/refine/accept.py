"""Acceptance: held-out tracks judge adjusted cameras, as a whole and frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvggt.postprocess.refine.tracks import Tracks
from qvggt.postprocess.refine.views import WORST_PX, Views, triangulate

MIN_HELD_OUT = 8
"""Held-out tracks below which nothing is judged, and the cameras stay."""

_SURE = 2.0
"""Standard errors by which a mean improvement must exceed zero."""

_FINEST_PX = 0.2
"""Least scale of the loss: differences far below it are noise of the features."""


@dataclass(frozen=True)
class Judge:
    """Compares cameras by the reprojection errors of held-out tracks, triangulated from the cameras themselves.

    Attributes:
        held_out: tracks that no adjustment has seen.
        scale_px: of the loss log(1 + (error / scale)^2).
    """

    held_out: Tracks
    scale_px: float

    @classmethod
    def of(cls, held_out: Tracks, candidates: list[Views]) -> Judge:
        """Return a judge whose loss has the scale of the best candidate's median error."""
        medians = [float(np.median(errors_px(views, held_out))) for views in candidates]
        return cls(held_out, max(_FINEST_PX, min(medians)))

    def losses(self, views: Views) -> np.ndarray:
        """Return the sum of the losses [count] of each held-out track."""
        errors = errors_px(views, self.held_out)
        return np.bincount(self.held_out.track, np.log1p((errors / self.scale_px) ** 2), minlength=self.held_out.count)

    def prefers(self, new: Views, old: Views) -> bool:
        """Return whether the losses of new cameras are smaller on average, by more than chance explains."""
        gain = self.losses(old) - self.losses(new)
        if len(gain) < MIN_HELD_OUT or gain.mean() <= 0:
            return False
        return bool(gain.mean() > _SURE * gain.std(ddof=1) / np.sqrt(len(gain)))

    def about(self, frames: np.ndarray) -> Judge:
        """Return a judge with the held-out tracks that some frames [S] bool observe."""
        seen = np.zeros(self.held_out.count, bool)
        seen[self.held_out.track[frames[self.held_out.frame]]] = True
        return Judge(self.held_out.of_tracks(seen), self.scale_px)


def errors_px(views: Views, tracks: Tracks) -> np.ndarray:
    """Return the reprojection error [N] of each observation, at most ``WORST_PX``."""
    return np.minimum(triangulate(views, tracks)[1], WORST_PX)


def accept_frames(
    judge: Judge, old: Views, new: Views, frames: np.ndarray, *, moment: np.ndarray
) -> tuple[Views, np.ndarray]:
    """Return the new cameras with the old ones of frames that are not better, and which frames [S] are new.

    A frame's new camera is compared with its old one among the new cameras of the other frames, and frames of a rig
    that were taken at one moment together. The old cameras are returned whole if the mixture is not better than them.

    Args:
        judge: with the held-out tracks.
        old: in the world of ``new``.
        new: adjusted cameras.
        frames: [S] bool, which frames may change.
        moment: [S], frames of one number change together.
    """
    accepted = frames.copy()
    current = new.merged(old, ~frames)
    for number in np.unique(moment[frames]):
        together = moment == number
        reverted = current.merged(old, together)
        if not judge.about(together).prefers(current, reverted):
            current, accepted = reverted, accepted & ~together
    if not judge.prefers(current, old):
        return old, np.zeros(len(old), bool)
    return current, accepted
