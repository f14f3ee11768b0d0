"""Tracks: which features of which frames show the same point, and which of them judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from qvggt.postprocess.refine.features import MIN_MATCHES, Features, PairMatches


@dataclass(frozen=True)
class Tracks:
    """Observations of points, sorted by track; each frame sees a track at most once.

    Attributes:
        track: [N] int64, 0 to ``count - 1``.
        frame: [N] int64.
        xy: [N, 2] float64, in pixels of the searched image.
        count: number of tracks.
    """

    track: np.ndarray
    frame: np.ndarray
    xy: np.ndarray
    count: int

    def kept(self, observations: np.ndarray) -> Tracks:
        """Return the tracks with some of the observations, [N] bool; a track that is left with one of them is dropped.

        Tracks are numbered anew, in the same order.
        """
        sizes = np.bincount(self.track[observations], minlength=self.count)
        observations = observations & (sizes >= 2)[self.track]
        numbers, track = np.unique(self.track[observations], return_inverse=True)
        return Tracks(track.astype(np.int64), self.frame[observations], self.xy[observations], len(numbers))

    def of_tracks(self, tracks: np.ndarray) -> Tracks:
        """Return some of the tracks, [count] bool, numbered anew."""
        return self.kept(tracks[self.track])

    def frame_counts(self, frames: int) -> np.ndarray:
        """Return the number of observations [S] of each frame."""
        return np.bincount(self.frame, minlength=frames)


def build_tracks(features: Sequence[Features], pairs: Sequence[PairMatches]) -> Tracks:
    """Join matches to tracks: connected components of matched features.

    A component with two features of one frame has a wrong match somewhere, and is dropped.
    """
    starts = np.cumsum([0, *(len(each.xy) for each in features)])
    total = int(starts[-1])
    ends = [(starts[p.first] + p.matches[:, 0], starts[p.second] + p.matches[:, 1]) for p in pairs]
    one = np.concatenate([first for first, _ in ends]) if ends else np.empty(0, np.int64)
    other = np.concatenate([second for _, second in ends]) if ends else np.empty(0, np.int64)
    links = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(total, total))
    component = connected_components(links, directed=False)[1]
    frame = np.repeat(np.arange(len(features)), np.diff(starts))
    xy = np.concatenate([each.xy for each in features]) if features else np.empty((0, 2))
    order = np.lexsort((frame, component))
    component, frame, xy = component[order], frame[order], xy[order]
    twice = (component[1:] == component[:-1]) & (frame[1:] == frame[:-1])
    count = int(component.max()) + 1 if total else 0
    whole = np.ones(count, bool)
    whole[component[1:][twice]] = False
    return Tracks(component, frame, xy, count).of_tracks(whole)


def split_tracks(tracks: Tracks, holdout_percent: float, seed: int) -> tuple[Tracks, Tracks]:
    """Return the tracks that cameras are adjusted to, and those that judge the result."""
    chosen = np.random.default_rng(seed).random(tracks.count) * 100 < holdout_percent
    return tracks.of_tracks(~chosen), tracks.of_tracks(chosen)


def connected_frames(tracks: Tracks, frames: int, least: int) -> np.ndarray:
    """Return which frames [S] belong to the largest group of frames that tracks tie together.

    Two frames are tied by at least ``MIN_MATCHES`` common tracks; every frame of the group has at least ``least``
    observations of tracks within it.
    """
    used = np.ones(frames, bool)
    while True:
        inside = tracks.kept(used[tracks.frame])
        links = common_tracks(inside, frames) >= MIN_MATCHES
        group = connected_components(links, directed=False)[1]
        largest = np.bincount(group[used], minlength=1).argmax() if used.any() else 0
        now = used & (group == largest) & (inside.frame_counts(frames) >= least)
        if (now == used).all():
            return now if now.sum() >= 2 else np.zeros(frames, bool)
        used = now


def common_tracks(tracks: Tracks, frames: int) -> np.ndarray:
    """Return the numbers [S, S] of tracks that two frames share; the diagonal has each frame's own."""
    seen = coo_matrix((np.ones(len(tracks.track)), (tracks.track, tracks.frame)), shape=(tracks.count, frames)).tocsr()
    return np.asarray((seen.T @ seen).todense())
