"""Choose frames of a video: spread over the camera's motion, each the sharpest near its place."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from qvggt.images.files import VIDEO_SUFFIXES, quote, source_mode, suffix
from qvggt.images.motion import displacement, sharpness_of
from qvggt.images.video import read_frame_times, read_gray_frames
from qvggt.types import QvggtError

SHARPNESS_PX, _MOTION_PX = 480, 128
"""Longer side of the copies on which sharpness and motion are measured."""

_STEP, _STILL = 0.03, 0.004
"""Displacements, as shares of the width, after which motion is measured from a new frame, and below which there is
none: summed up from frame to frame, noise would become motion."""

_TIME_SHARE = 0.1
"""Weight of time in the spread, so that places where the camera stands still get a few frames, too."""

_REACH = 1.5
"""How far from its place a frame may be, in halves of the distance between places."""

_NEIGHBORS_S = 2.0
"""Seconds before and after a frame whose median sharpness its own is compared with."""


@dataclass(frozen=True)
class VideoTrack:
    """Measured quantities of all T frames of a video.

    Attributes:
        time_s: [T] when each frame is shown, ascending.
        sharpness: [T] variance of the Laplacian at ``SHARPNESS_PX``.
        motion: [T] path of the content up to each frame, in widths of the picture, ascending from 0.
    """

    time_s: np.ndarray
    sharpness: np.ndarray
    motion: np.ndarray

    @property
    def relative_sharpness(self) -> np.ndarray:
        """Sharpness [T] over the median of the frames within two seconds; 1 is usual."""
        interval = np.median(np.diff(self.time_s)) if len(self.time_s) > 1 else 1.0
        reach = max(1, round(_NEIGHBORS_S / max(float(interval), 1e-3)))
        usual = ndimage.median_filter(self.sharpness, 2 * min(reach, len(self.time_s)) + 1, mode="nearest")
        return self.sharpness / np.maximum(usual, 1e-9)


def measure_video(path: Path, on_progress: Callable[[float], None] | None = None) -> VideoTrack:
    """Decode a video once and measure every frame; only small copies of two frames are kept.

    Args:
        path: of the video.
        on_progress: called with the share of the frames done.

    Raises:
        QvggtError: PyAV is not installed, or the path is not a readable video or has no frames.
    """
    if stat.S_ISDIR(source_mode(path)) or suffix(path) not in VIDEO_SUFFIXES:
        raise QvggtError(f"{quote(path)} is not a video: give a file such as walk.mp4")
    expected = len(read_frame_times(path)) if on_progress else 0
    times, sharpness, motion = [], [], []
    anchor: np.ndarray | None = None
    done = reached = 0.0
    for time, gray in read_gray_frames(path, SHARPNESS_PX):
        small = _shrunk(gray)
        anchor = small if anchor is None else anchor
        moved = displacement(anchor, small)
        reached = max(reached, done + (moved if moved > _STILL else 0.0))
        if moved >= _STEP:
            anchor, done = small, reached
        times.append(time)
        sharpness.append(sharpness_of(gray))
        motion.append(reached)
        if on_progress:
            on_progress(min(1.0, len(times) / max(expected, 1)))
    if not times:
        raise QvggtError(f"{quote(path)} has no decodable frame: record or convert it again")
    return VideoTrack(np.maximum.accumulate(times), np.array(sharpness), np.array(motion))


def choose_frames(track: VideoTrack, number: int) -> list[int]:
    """Return the ascending numbers of at most ``number`` frames.

    Places are evenly spaced along the camera's motion, with a tenth of the weight on time; all of it if the camera does
    not move. Near each place the sharpest frame is taken; one at the limit of its reach has to be three times as sharp
    as one at the place itself.
    """
    count = len(track.time_s)
    if count <= number:
        return list(range(count))
    way = _way(track)
    places, half = (np.arange(number) + 0.5) / number, 0.5 / number
    logarithm = np.log(np.maximum(track.sharpness, 1e-9))
    chosen: list[int] = []
    for index, place in enumerate(places):
        least, most = (chosen[-1] + 1 if chosen else 0), count - number + index
        away = np.abs(way[least : most + 1] - place) / half
        value = np.where(away <= _REACH, logarithm[least : most + 1] - 0.5 * away**2, -np.inf)
        best = int(value.argmax()) if np.isfinite(value).any() else int(away.argmin())
        chosen.append(least + best)
    return chosen


def _way(track: VideoTrack) -> np.ndarray:
    """Return the position [T] of each frame on the way of the camera, 0..1."""
    time = track.time_s - track.time_s[0]
    time = time / time[-1] if time[-1] > 0 else np.linspace(0, 1, len(time))
    if track.motion[-1] < _STEP:
        return time
    return _TIME_SHARE * time + (1 - _TIME_SHARE) * track.motion / track.motion[-1]


def _shrunk(gray: np.ndarray) -> np.ndarray:
    share = _MOTION_PX / max(gray.shape)
    width, height = (max(1, round(length * share)) for length in gray.shape[::-1])
    return np.asarray(Image.fromarray(gray).resize((width, height), Image.Resampling.BOX))
