"""Decode selected frames of a video as upright RGB images, with PyAV (extra ``video``)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qvggt.images.files import evenly_spread, os_reason, quote
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

DEFAULT_FRAMES = 16
"""Number of frames if neither a rate nor a number is given."""

# Containers round time stamps, some to milliseconds: a frame may be this early, in seconds.
_TOLERANCE_S = 1e-3

# Counter-clockwise, as both the display matrix and Pillow count.
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def read_video(path: Path, fps: float | None = None, frames: int | None = None) -> Iterator[tuple[str, Image.Image]]:
    """Yield (``video.mp4#12``, upright RGB image) for the selected frames, in order, one in memory at a time.

    The file is read twice: for its time stamps, without decoding, and to decode up to the last selected frame.

    Args:
        path: of the video; its first video stream is read.
        fps: frames per second of video time, or None.
        frames: maximum number, evenly spaced over those that ``fps`` selects. If both are None, ``DEFAULT_FRAMES``.

    Raises:
        QvggtError: PyAV is not installed, or the file is not a readable video or has no frames.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise QvggtError(f'{quote(path)} is a video, which needs: pip install "qvggt[video]"') from error
    try:
        # Opened here rather than by FFmpeg, which would take a name like "concat:..." for a protocol.
        file = path.open("rb")
    except OSError as error:
        raise QvggtError(f"{quote(path)} {os_reason(error)}") from error
    try:
        with file:
            with av.open(file) as container:
                times = _frame_times(container, path)
            chosen = choose_times(times, fps, frames)
            file.seek(0)
            with av.open(file) as container:
                yield from _frames_at(container, chosen, path)
    except (FFmpegError, OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise QvggtError(f"{quote(path)} cannot be read as a video ({reason}): convert it to MP4") from error


def choose_times(times: Sequence[float], fps: float | None, frames: int | None) -> list[float]:
    """Return the times of the frames to take from a video whose frames are shown at ``times``.

    Args:
        times: seconds, ascending.
        fps: take the first frame of each interval of 1 / fps seconds; None for all.
        frames: then at most this many, evenly spaced. If both are None, ``DEFAULT_FRAMES``.

    >>> choose_times([0.0, 0.5, 1.0, 1.5, 2.0], fps=1, frames=None)
    [0.0, 1.0, 2.0]
    """
    if fps is None:
        return evenly_spread(times, DEFAULT_FRAMES if frames is None else frames)
    stamps = np.asarray(times)
    intervals = np.floor((stamps - stamps[0] + _TOLERANCE_S) * fps)
    return evenly_spread(stamps[np.unique(intervals, return_index=True)[1]].tolist(), frames)


def _frame_times(container: Any, path: Path) -> list[float]:
    """Return the times in seconds at which frames are shown, ascending, from the packets without decoding."""
    if not container.streams.video:
        raise QvggtError(f"{quote(path)} has no video stream: give a video or a folder of images")
    stream = container.streams.video[0]
    stamps = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
    if not stamps:
        raise QvggtError(f"{quote(path)} has no frames: record or convert it again")
    if any(stamp is None for stamp in stamps):
        return [number / _rate(stream) for number in range(len(stamps))]
    return sorted(stamp * float(stream.time_base) for stamp in stamps)


def _rate(stream: Any) -> float:
    """Return the frame rate, for streams without time stamps; its exact value only matters with ``fps``."""
    return float(stream.average_rate or stream.guessed_rate or 25)


def _frames_at(container: Any, times: Sequence[float], path: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yield the first decoded frame at or after each of the times."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    taken = 0
    for number, frame in enumerate(_decoded(container, stream)):
        time = number / _rate(stream) if frame.pts is None else frame.pts * float(stream.time_base)
        if time < times[taken]:
            continue
        yield f"{path.name}#{number}", _upright(frame)
        taken += 1
        if taken == len(times):
            return
    if taken == 0:
        raise QvggtError(f"{quote(path)} has no decodable frame: record or convert it again")
    log.warning("%s ends early: %d of %d frames could be decoded", quote(path), taken, len(times))


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    from av.error import InvalidDataError

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except InvalidDataError:  # a damaged packet loses its own frame only
            continue
        yield from frames


def _upright(frame: Any) -> Image.Image:
    """Return the frame as RGB, rotated by the display matrix (phones record sideways and store the rotation)."""
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    turn = _TURNS.get(round(frame.rotation) % 360)
    return image if turn is None else image.transpose(turn)
