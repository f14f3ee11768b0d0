"""Decode selected frames of a video as upright RGB images, with PyAV (extra ``video``)."""

from __future__ import annotations

import io
import logging
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qvggt.images.color import HDR_NAMES
from qvggt.images.files import os_reason, quote
from qvggt.images.limits import DecodingBytes, MemoryLeft, fitting_divisor
from qvggt.images.video_frames import FrameConverter
from qvggt.options.messages import missing_extra
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

DEFAULT_FRAMES = 16
"""Number of frames if neither a rate nor a number is given."""

# Containers round time stamps, some to milliseconds: a frame may be this early, in seconds.
_TOLERANCE_S = 1e-3

_DECODER_BYTES, _PIXEL_BYTES = 45_000_000, 20
"""Memory of FFmpeg's libraries, and of a pixel while a frame is decoded by one thread and converted, with the frames
that it refers to: 13 to 20 bytes were measured, by codec."""

_MISSING_SHARE = 0.01
"""Share of frames, or of the duration, that may be missing from the end of a file that still counts as whole."""


class _VideoFile(io.FileIO):
    """A file in which FFmpeg may seek to impossible places, as damaged videos say."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Return the new position, or -1 if there is none."""
        try:
            return super().seek(offset, whence)
        except (OSError, OverflowError):
            return -1


def read_video(
    path: Path, fps: float | None = None, frames: int | None = None, memory_left: MemoryLeft | None = None
) -> Iterator[tuple[str, Image.Image]]:
    """Yield (``video.mp4#12``, upright RGB image) for the selected frames, in order, one in memory at a time.

    The file is read twice: for its time stamps, without decoding, and to decode up to the last selected frame.

    Args:
        path: of the video; its main video stream is read.
        fps: frames per second of video time, or None.
        frames: maximum number, evenly spaced over those that ``fps`` selects. If both are None, ``DEFAULT_FRAMES``.
        memory_left: returns the bytes that decoding may take; None for no limit. The decoder uses one thread where
            several, each with a frame of its own, would exceed them.

    Raises:
        QvggtError: PyAV is not installed, the file is not a readable video or has no frames, or a frame takes more
            memory than is left.
    """
    with _opened(path) as open_container:
        with open_container() as container:
            times = _frame_times(container, path)
        chosen = choose_times(times, fps, frames)
        log.info("taking %d of the %d frames of %s", len(chosen), len(times), quote(path))
        with open_container() as container:
            yield from _frames_at(container, chosen, path, memory_left)


def read_video_frames(path: Path, numbers: Sequence[int]) -> Iterator[Image.Image]:
    """Yield the upright RGB images of the frames that ``read_video`` named ``video.mp4#number``.

    Args:
        path: of the video.
        numbers: ascending.

    Raises:
        QvggtError: PyAV is not installed, or the file is not a readable video or has no such frame.
    """
    with _opened(path) as open_container, open_container() as container:
        stream = _main_stream(container, path)
        stream.thread_type = "AUTO"
        converter, left = FrameConverter(stream), list(numbers)
        for number, frame in enumerate(_decoded(container, stream)):
            if not left:
                return
            if number == left[0]:
                yield converter.image(frame)
                del left[0]
        if left:
            raise QvggtError(f"{quote(path)} has no frame {left[0]}: name the video that was reconstructed (--images)")


def read_frame_times(path: Path) -> list[float]:
    """Return the time in seconds at which each frame of a video is shown, without decoding.

    Raises:
        QvggtError: PyAV is not installed, or the file is not a readable video or has no frames.
    """
    with _opened(path) as open_container, open_container() as container:
        return _frame_times(container, path)


def read_gray_frames(path: Path, longer_px: int) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the time in seconds and a gray copy [h, w] uint8 of every frame, as stored: not turned upright.

    Args:
        path: of the video.
        longer_px: longer side of the copies; smaller videos are not enlarged.

    Raises:
        QvggtError: PyAV is not installed, or the file is not a readable video.
    """
    with _opened(path) as open_container, open_container() as container:
        stream = _main_stream(container, path)
        stream.thread_type = "AUTO"
        for number, frame in enumerate(_decoded(container, stream)):
            share = min(1.0, longer_px / max(frame.width, frame.height))
            width, height = (max(2, round(side * share)) for side in (frame.width, frame.height))
            small = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
            yield _time(frame, number, stream), small.to_ndarray()


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[], Any]]:
    """Open a video; what it yields opens its container, from the start each time.

    Raises:
        QvggtError: PyAV is not installed, or what is read inside the ``with`` is not a readable video.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise missing_extra(f"{quote(path)} is a video, which", "video") from error
    try:
        # Opened here rather than by FFmpeg, which would take a name like "concat:..." for a protocol.
        file = _VideoFile(path)
    except OSError as error:
        raise QvggtError(f"{quote(path)} {os_reason(error)}") from error

    def open_container() -> Any:
        file.seek(0)
        return av.open(file)

    try:
        with file:
            yield open_container
    except (FFmpegError, OSError, ValueError) as error:
        if _is_cut_mp4(path):
            raise QvggtError(f"{quote(path)} is cut short, its index is missing: copy or record it again") from error
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise QvggtError(f"{quote(path)} cannot be read as a video ({reason}): convert it to MP4") from error


def choose_times(times: Sequence[float], fps: float | None, frames: int | None) -> list[float]:
    """Return the times of the frames to take from a video whose frames are shown at ``times``.

    Args:
        times: seconds, ascending.
        fps: take the first frame of each interval of 1 / fps seconds; None for all.
        frames: then at most this many, evenly spaced in time. If both are None, ``DEFAULT_FRAMES``.

    >>> choose_times([0.0, 0.5, 1.0, 1.5, 2.0], fps=1, frames=None)
    [0.0, 1.0, 2.0]
    """
    if fps is None:
        return _spread_in_time(times, DEFAULT_FRAMES if frames is None else frames)
    stamps = np.asarray(times)
    intervals = np.floor((stamps - stamps[0] + _TOLERANCE_S) * fps)
    return _spread_in_time(stamps[np.unique(intervals, return_index=True)[1]].tolist(), frames)


def _spread_in_time(times: Sequence[float], limit: int | None) -> list[float]:
    """Return at most ``limit`` distinct times, as evenly spaced as there are, including the first and the last."""
    if limit is None or len(times) <= limit:
        return list(times)
    stamps = np.asarray(times)
    wanted = np.linspace(stamps[0], stamps[-1], limit)
    chosen: list[int] = []
    for position, index in enumerate(np.abs(stamps - wanted[:, None]).argmin(1).tolist()):
        least = chosen[-1] + 1 if chosen else 0
        chosen.append(min(max(index, least), len(stamps) - limit + position))
    return stamps[chosen].tolist()


def _main_stream(container: Any, path: Path) -> Any:
    """Return the video stream with the largest frames, of equal ones the first; cover pictures count least."""
    if not container.streams.video:
        raise QvggtError(f"{quote(path)} has no video stream: give a video or a folder of images")

    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not streams:
        raise QvggtError(f"{quote(path)} has a video codec that cannot be decoded here: convert it to MP4")

    def rank(stream: Any) -> tuple[bool, int]:
        return not stream.disposition & type(stream.disposition).attached_pic, stream.width * stream.height

    return max(streams, key=rank)


def _frame_times(container: Any, path: Path) -> list[float]:
    """Return the times in seconds at which frames are shown, ascending, from the packets without decoding."""
    stream = _main_stream(container, path)
    packets = [packet for packet in container.demux(stream) if packet.size]
    stamps = [packet.pts for packet in packets if not packet.is_discard and not packet.is_corrupt]
    if not stamps:
        raise QvggtError(f"{quote(path)} has no frames: record or convert it again")
    if any(stamp is None for stamp in stamps):
        times = [number / _rate(stream) for number in range(len(stamps))]
    else:
        times = sorted(stamp * float(stream.time_base) for stamp in stamps)
    missing = _missing_share(container, stream, len(packets), times[-1])
    if missing > _MISSING_SHARE:
        log.warning("%s is cut short: the last %d %% of it are missing", quote(path), round(100 * missing))
    return times


def _missing_share(container: Any, stream: Any, packets: int, last: float) -> float:
    """Return the share that is missing of what the file's header announces, 0 if it announces nothing."""
    if stream.frames and packets < stream.frames - 1:
        return 1 - packets / stream.frames
    if "matroska" in container.format.name and container.duration:
        announced = container.duration / 1e6
        return max(0.0, 1 - (last + 2 / _rate(stream)) / announced)
    return 0.0


def _is_cut_mp4(path: Path) -> bool:
    """Return whether a file begins as MP4 or QuickTime does but has no index (``moov``), which is often at the end."""
    with path.open("rb") as file:
        kinds = set()
        while len(head := file.read(16)) >= 8:
            size, kind = struct.unpack_from(">I4s", head)
            kinds.add(kind)
            if size == 1 and len(head) == 16:
                size = struct.unpack_from(">Q", head, 8)[0]
            if not 8 <= size < 1 << 62:
                break
            file.seek(size - len(head), 1)
    return b"ftyp" in kinds and b"moov" not in kinds


def _rate(stream: Any) -> float:
    """Return the frame rate, for streams without time stamps; its exact value only matters with ``fps``."""
    return float(stream.average_rate or stream.guessed_rate or 25)


def _time(frame: Any, number: int, stream: Any) -> float:
    return number / _rate(stream) if frame.pts is None else frame.pts * float(stream.time_base)


def _limit_threads(stream: Any, max_bytes: int, path: Path) -> None:
    """Have a stream decoded by one thread if several would take more than ``max_bytes``; raise if one would."""
    pixels = stream.width * stream.height
    threads = 2 + (os.cpu_count() or 1)
    pixel_format = stream.codec_context.format  # None in some damaged files
    deep = pixel_format is not None and any(component.bits > 8 for component in pixel_format.components)
    if _DECODER_BYTES + pixels * (_PIXEL_BYTES + threads * (3 if deep else 1.5)) > max_bytes:
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        fitting_divisor(DecodingBytes(pixels * _PIXEL_BYTES, _DECODER_BYTES), max_bytes, (1,), quote(path))


def _frames_at(
    container: Any, times: Sequence[float], path: Path, memory_left: MemoryLeft | None = None
) -> Iterator[tuple[str, Image.Image]]:
    """Yield the first decoded frame at or after each of the times."""
    stream = _main_stream(container, path)
    stream.thread_type = "AUTO"
    if memory_left is not None:
        _limit_threads(stream, memory_left(), path)
    converter, taken = FrameConverter(stream), 0
    for number, frame in enumerate(_decoded(container, stream)):
        if _time(frame, number, stream) < times[taken]:
            continue
        transfer = converter.coding_points(frame).transfer
        if taken == 0 and transfer in HDR_NAMES:
            log.warning("%s is HDR (%s): tone-mapped to SDR", quote(path), HDR_NAMES[transfer])
        yield f"{path.name}#{number}", converter.image(frame)
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
