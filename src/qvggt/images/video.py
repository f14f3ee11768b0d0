"""Video files -> a few upright RGB frames, through PyAV (the extra ``video``)."""

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
"""How many frames are taken when neither a rate nor a number is asked for."""

# Containers round time stamps, some to the millisecond: a frame counts as due this much before its time, in seconds.
_TOLERANCE_S = 1e-3

# Counter-clockwise, as both the display matrix and Pillow count.
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def read_video(path: Path, fps: float | None = None, frames: int | None = None) -> Iterator[tuple[str, Image.Image]]:
    """Yields (``video.mp4#12``, upright RGB image) for the chosen frames, in order, one in memory at a time.

    The file is read twice: once for its time stamps (nothing is decoded), once to decode up to the last chosen frame.

    Args:
        path: of the video; its first video stream is read.
        fps: frames per second of the video's own time; None for no rate.
        frames: at most this many, evenly spread over what ``fps`` leaves. If both are None, ``DEFAULT_FRAMES``.

    Raises:
        QvggtError: PyAV is not installed, or the file is no readable video or holds no frames.
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
    """Which frames to take of a video whose frames are shown at ``times``.

    Args:
        times: seconds, ascending.
        fps: take the first frame of each interval of 1 / fps seconds; None for all.
        frames: then at most this many, evenly spread. If both are None, ``DEFAULT_FRAMES``.

    >>> choose_times([0.0, 0.5, 1.0, 1.5, 2.0], fps=1, frames=None)
    [0.0, 1.0, 2.0]
    """
    if fps is None:
        return evenly_spread(times, DEFAULT_FRAMES if frames is None else frames)
    stamps = np.asarray(times)
    intervals = np.floor((stamps - stamps[0] + _TOLERANCE_S) * fps)
    return evenly_spread(stamps[np.unique(intervals, return_index=True)[1]].tolist(), frames)


def _frame_times(container: Any, path: Path) -> list[float]:
    """Seconds at which each frame is shown, ascending, from the packets alone."""
    if not container.streams.video:
        raise QvggtError(f"{quote(path)} holds no video: give a video or a folder of images")
    stream = container.streams.video[0]
    stamps = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
    if not stamps:
        raise QvggtError(f"{quote(path)} holds no frames: record or convert it again")
    if any(stamp is None for stamp in stamps):
        return [number / _rate(stream) for number in range(len(stamps))]
    return sorted(stamp * float(stream.time_base) for stamp in stamps)


def _rate(stream: Any) -> float:
    """Frames per second for streams without time stamps; the exact value cancels out unless ``fps`` is asked for."""
    return float(stream.average_rate or stream.guessed_rate or 25)


def _frames_at(container: Any, times: Sequence[float], path: Path) -> Iterator[tuple[str, Image.Image]]:
    """The first decoded frame at or after each of the times."""
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
        raise QvggtError(f"{quote(path)} holds no frame that can be decoded: record or convert it again")
    log.warning("%s ends early: %d of %d frames could be decoded", quote(path), taken, len(times))


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    from av.error import InvalidDataError

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except InvalidDataError:  # a damaged packet costs its own frame, not the whole video
            continue
        yield from frames


def _upright(frame: Any) -> Image.Image:
    """The frame as RGB, turned as the file's display matrix says (phones record sideways and note the turn)."""
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    turn = _TURNS.get(round(frame.rotation) % 360)
    return image if turn is None else image.transpose(turn)
