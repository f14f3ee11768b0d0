"""Captured scenes: folders of photographs and videos, a name for each, and whether they have changed."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qvggt.images.files import (
    VIDEO_SUFFIXES,
    is_pattern,
    list_images,
    literal_folders,
    natural_key,
    os_reason,
    quote,
    source_mode,
    suffix,
    unique_names,
)
from qvggt.images.video import DEFAULT_FRAMES, choose_times, read_frame_times
from qvggt.types import PathLike, QvggtError

log = logging.getLogger(__name__)

_NAME_CHARACTERS = 60
_CHUNK_BYTES = 1 << 20
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class CapturedScene:
    """The photographs or the video of one scene.

    Attributes:
        name: of its output folder: unlike the others' in any case, and valid on every system.
        source: absolute path of the folder or video.
    """

    name: str
    source: Path


def find_scenes(
    places: PathLike | Sequence[PathLike], output: PathLike | None = None, reserved: Collection[str] = ()
) -> tuple[CapturedScene, ...]:
    """Return the scenes that are folders or videos, in natural order.

    Args:
        places: folders, videos, and glob patterns of them. Other files are skipped, with one warning.
        output: folder that is no scene, and whose folders are none.
        reserved: names that no scene gets.

    Raises:
        QvggtError: a place does not exist, nothing matches a pattern, or there is no scene.
    """
    found: dict[Path, None] = {}
    for place in [places] if isinstance(places, (str, os.PathLike)) else places:
        found |= dict.fromkeys(_matches(Path(place)))
    if output is not None:
        target = Path(os.path.realpath(output))
        found = {path: None for path in found if not Path(os.path.realpath(path)).is_relative_to(target)}
    scenes = sorted((path for path in found if _is_scene(path)), key=natural_key)
    if not scenes:
        raise QvggtError("found no scenes: expected folders of photographs, or videos (--scenes 'captures/*/')")
    others = [path for path in found if path not in scenes]
    if others:
        noun = "file that is no video" if len(others) == 1 else "files that are no videos"
        log.warning("skipped %d %s, first %s", len(others), noun, quote(others[0].name))
    names = _folder_names(scenes, reserved)
    return tuple(CapturedScene(name, path) for name, path in zip(names, scenes, strict=True))


def content_hash(scene: CapturedScene) -> str:
    """Return a hash of the names and bytes of a scene's images, or of its video.

    Raises:
        QvggtError: the folder has no images.
    """
    digest = hashlib.sha256()
    for path in list_images(scene.source, quiet=True) if scene.source.is_dir() else [scene.source]:
        digest.update(b"\0" + os.fsencode(path.name) + b"\0")
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except OSError as error:  # reading the images says what becomes of it
            digest.update(os_reason(error).encode())
    return f"sha256:{digest.hexdigest()}"


def count_frames(scene: CapturedScene, fps: float | None, frames: int | None) -> int:
    """Return how many frames of a scene are taken, without decoding any; 0 if they cannot be read."""
    try:
        if scene.source.is_dir():
            return min(len(list_images(scene.source, quiet=True)), frames or 1 << 62)
        if fps is None:
            return frames or DEFAULT_FRAMES
        return len(choose_times(read_frame_times(scene.source), fps, frames))
    except QvggtError:
        return 0


def _matches(place: Path) -> list[Path]:
    """Return the absolute paths that a pattern or path stands for."""
    if is_pattern(place):
        paths = [Path(match) for match in glob.glob(literal_folders(str(place)), recursive=True)]
        if not paths:
            raise QvggtError(f"nothing matches {quote(place)}: check the pattern (--scenes)")
    else:
        source_mode(place)  # raises if there is nothing
        paths = [place]
    return [Path(os.path.abspath(path)) for path in paths]


def _is_scene(path: Path) -> bool:
    return path.is_dir() or suffix(path) in VIDEO_SUFFIXES


def _folder_names(paths: Sequence[Path], reserved: Collection[str]) -> list[str]:
    """Return a name for each path: its own; if others have the same, with the folders above it; or else with a hash."""
    taken = [name.casefold() for name in reserved]
    whole = unique_names(paths)
    names = [_safe(path.name if path.is_dir() else path.stem) for path in paths]
    names = [_safe(long) if clash else name for name, long, clash in _with_clashes(names, whole, taken)]
    return [
        f"{name}-{hashlib.sha256(os.fsencode(long)).hexdigest()[:8]}" if clash else name
        for name, long, clash in _with_clashes(names, whole, taken)
    ]


def _with_clashes(names: Sequence[str], whole: Sequence[str], taken: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield each name, its long form, and whether another one is the same where case does not count."""
    counts = Counter([*taken, *map(str.casefold, names)])
    for name, long in zip(names, whole, strict=True):
        yield name, long, counts[name.casefold()] > 1


def _safe(name: str) -> str:
    """Return a name that is a valid folder's on every system, and neither hidden nor like an option.

    >>> _safe("living room/north (2)"), _safe("..."), _safe("con")
    ('living_room-north_2', 'scene', 'con_')
    """
    plain = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", name).replace("/", "-"))
    plain = plain[:_NAME_CHARACTERS].strip("._-") or "scene"
    return f"{plain}_" if _WINDOWS_DEVICES.fullmatch(plain) else plain
