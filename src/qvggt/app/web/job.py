"""From a visitor's files to what they see: the scene, its depth, and notes on its quality in words."""

from __future__ import annotations

import errno
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from qvggt.api.reconstruct import reconstruct
from qvggt.app.saving import frame_pictures
from qvggt.app.web.holder import ModelHolder
from qvggt.app.web.sessions import Session
from qvggt.app.web.uploads import check_uploads, take_uploads
from qvggt.export import select_points, write_glb
from qvggt.export.result import Result, ResultInfo, judged, open_result, save_result
from qvggt.images.files import VIDEO_SUFFIXES, suffix
from qvggt.inference.process_memory import is_out_of_memory
from qvggt.options import AppLimits, Compute, ImageMode
from qvggt.types import OnProgress, Prediction, QvggtError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What a visitor asks for.

    Attributes:
        images: photographs, or one video.
        model: its name.
        compute: mode.
        frames: most frames of a video.
        mode: ``crop`` or ``pad``.
    """

    images: Sequence[Path]
    model: str
    compute: Compute
    frames: int
    mode: ImageMode


def reconstruct_job(
    job: Job, session: Session, holder: ModelHolder, limits: AppLimits, *, on_progress: OnProgress
) -> str:
    """Reconstruct a scene, keep it in the visitor's folder in place of an earlier one, and return notes on it.

    Raises:
        QvggtError: the files are refused or cannot be read, the model cannot be loaded, memory is too low, or the
            visitor stopped it.
    """
    check_uploads(job.images, limits)

    def report(stage: str, share: float) -> None:
        if session.stopped.is_set():
            raise QvggtError("the reconstruction was stopped")
        on_progress(stage, share)

    is_video = suffix(job.images[0]) in VIDEO_SUFFIXES
    with messages() as said:
        network = holder.get(job.model, job.compute, report)
        images = take_uploads(job.images, session.folder / "photos")
        started = time.perf_counter()
        prediction = reconstruct(
            network, images, mode=job.mode, frames=min(job.frames, limits.images) if is_video else None,
            memory_bytes=limits.memory_bytes, written_points=limits.points, on_progress=report,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        report("judging the result", 1.0)
        info = judged(prediction, ResultInfo(job.model, tuple(map(str, images)), job.mode))
        save_result(prediction, info, session.folder)
    return _notes(prediction, info, seconds, said)


def opened(session: Session) -> Result:
    """Return the visitor's scene.

    Raises:
        QvggtError: there is none.
    """
    try:
        return open_result(session.folder)
    except QvggtError:
        raise QvggtError(
            "there is no scene: reconstruct one first, again if this page was not used for a while"
        ) from None


def write_scene(result: Result, folder: Path, drop_percent: float, points: int) -> Path:
    """Write the points and cameras that the page shows as GLB, under a new name, in place of earlier ones."""
    cloud = select_points(result.prediction, result.info.points_from, max_points=points, drop_percent=drop_percent)
    path = fresh(folder / "scene", "scene.glb")
    write_glb(path, result.prediction, cloud, result.info.unit)
    return path


def write_pictures(result: Result, folder: Path) -> list[tuple[Path, str]]:
    """Write each photograph beside its depth, in place of earlier ones, and return the files with their captions."""
    written = []
    place = fresh(folder / "depth", "")
    for number, (name, picture) in enumerate(
        zip(result.prediction.names, frame_pictures(result.prediction), strict=True)
    ):
        path = place / f"{number:03}.jpg"
        Image.fromarray(picture).save(path, quality=90)
        written.append((path, name))
    return written


def fresh(folder: Path, name: str) -> Path:
    """Return a path that no browser has cached, below a folder that is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    place = folder / secrets.token_hex(4)
    place.mkdir(parents=True)
    return place / name


def _notes(prediction: Prediction, info: ResultInfo, seconds: float, said: Sequence[str]) -> str:
    count, _, height, width = prediction.images.shape
    findings = [finding["text"] for finding in info.details.get("quality", {}).get("findings", ())]
    first = f"{count} frame{'s' if count > 1 else ''} of {width} x {height} pixels in {seconds:.1f} s."
    return "\n".join((first, *map(_as_sentence, findings or ["no faults found"]), *map(_as_sentence, said)))


def _as_sentence(text: str) -> str:
    """Return a message as a sentence; a name at its start stays as it is."""
    first = text.partition(" ")[0]
    start = text[0].upper() + text[1:] if first.isalpha() and first.islower() else text
    return start if start.endswith((".", "?", "!")) else f"{start}."


@contextmanager
def messages() -> Iterator[list[str]]:
    """Yield a list that collects what the library logs in this thread, from INFO on, each message once."""
    found: list[str] = []
    thread = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread and record.getMessage() not in found:
                found.append(record.getMessage())

    logger, collector = logging.getLogger("qvggt"), Collector(logging.INFO)
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)


def sentence(error: Exception) -> str:
    """Return what the visitor reads about an error; one that is not theirs is logged with its traceback."""
    if isinstance(error, QvggtError):
        return _as_sentence(str(error))
    if is_out_of_memory(error):
        return "Out of memory: give fewer or smaller photographs."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk of the machine that runs the app is full: tell whoever runs it."
    log.error("an error that the app does not know", exc_info=error)
    return "Something went wrong that is not your fault; the log of the server says what."
