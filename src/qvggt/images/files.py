"""Find image files: endings, folders, glob patterns, natural order and names."""

from __future__ import annotations

import difflib
import errno
import glob
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from qvggt.types import QvggtError

log = logging.getLogger(__name__)

T = TypeVar("T")

IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "webp", "tif", "tiff", "bmp"),
        *("heic", "heif", "hif", "avif", "gif", "pgm", "ppm", "pnm", "jp2"),
    )
)
"""File endings (in any case) that are images."""

VIDEO_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("mp4", "mov", "m4v", "avi", "mkv", "webm", "mpg", "mpeg"),
        *("wmv", "3gp", "mts", "m2ts", "ts", "flv", "ogv"),
    )
)
"""File endings (in any case) that are videos."""

RAW_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "sr2", "srf", "raf", "orf", "rw2", "rwl"),
        *("pef", "srw", "x3f", "3fr", "fff", "iiq", "erf", "mrw", "kdc", "dcr", "mef", "mos"),
    )
)
"""File endings (in any case) that are camera raw files."""

READABLE = "JPEG, PNG, WebP, TIFF, BMP, HEIC"

_GLOB_MARKS = "*?["
_URL = re.compile(r"^[a-z][a-z0-9+.-]+:/{1,2}[^/]", re.IGNORECASE)


def quote(path: str | os.PathLike[str]) -> str:
    """Return the path in quotes on one line, with control characters and undecodable bytes escaped."""
    return repr(os.fspath(path))


def suffix(path: Path) -> str:
    """Return the ending of a file name in lower case, e.g. ``.jpg``."""
    return path.suffix.lower()


def natural_key(path: Path) -> tuple[tuple[str | int, ...], ...]:
    """Return a sort key by which ``img2`` comes before ``img10``; ties are broken by the exact name.

    >>> sorted(map(Path, ["img10.png", "img2.png", "Img1.png"]), key=natural_key)[0].name
    'Img1.png'
    """
    parts = [re.split(r"([0-9]+)", part) for part in path.parts]
    folded = [tuple(int(t) if i % 2 else t.casefold() for i, t in enumerate(part)) for part in parts]
    return (*folded, path.parts)


def evenly_spread(items: Sequence[T], limit: int | None) -> list[T]:
    """Return at most ``limit`` items, evenly spaced from the first to the last; all of them if ``limit`` is None.

    >>> evenly_spread(range(9), 3)
    [0, 4, 8]
    """
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, limit).round()]


def os_reason(error: OSError) -> str:
    """Return the reason of a failed system call, worded to follow the path."""
    if isinstance(error, FileNotFoundError):
        return "does not exist: check the path"
    if isinstance(error, PermissionError):
        return "cannot be read: no permission"
    if error.errno == errno.ELOOP:
        return "is a symbolic link to itself: replace it by the file"
    return f"cannot be read: {error.strerror or error}"


def source_mode(path: Path) -> int:
    """Return the ``st_mode`` of a path given by the user.

    Raises:
        QvggtError: the path does not exist, is not accessible, is a loop of links, or is not a valid path.
    """
    if _URL.match(str(path)) and not os.path.lexists(path):
        url = re.sub(r"^(\w+):/+", r"\1://", str(path))  # pathlib drops a slash
        raise QvggtError(f"{url!r} is a URL: download it and give the file")
    try:
        return path.stat().st_mode
    except OSError as error:
        raise QvggtError(f"{quote(path)} {os_reason(error)}") from error
    except ValueError as error:
        raise QvggtError(f"{quote(path)} is not a valid path: check the name") from error


def list_images(folder: Path, quiet: bool = False) -> list[Path]:
    """Return the image files directly in a folder, in natural order.

    Hidden files and files without an image ending are skipped with one warning (none if ``quiet``); subfolders are not
    searched.

    Raises:
        QvggtError: the folder cannot be listed or contains no images.
    """
    try:
        paths = [folder / name for name in os.listdir(folder)]
    except OSError as error:
        raise QvggtError(f"{quote(folder)} {os_reason(error)}") from error
    images = _keep_images(paths, None if quiet else f"in the folder {quote(folder)}")
    if images:
        return images
    hint = f"give a folder with {READABLE} files"
    if any(suffix(path) in VIDEO_SUFFIXES for path in paths):
        hint = "give the video in it by its own path"
    elif any(path.is_dir() for path in paths):
        hint = "subfolders are not searched, so give one of them"
    raise QvggtError(f"the folder {quote(folder)} contains no images: {hint}")


def is_pattern(path: Path) -> bool:
    """Return whether a path is a glob pattern: it has one of the characters ``*?[`` and is neither a file nor a URL."""
    text = str(path)
    return any(mark in text for mark in _GLOB_MARKS) and not os.path.lexists(path) and not _URL.match(text)


def match_paths(pattern: str, quiet: bool = False) -> list[Path]:
    """Return the paths that match a glob pattern (``**`` for any depth), in natural order.

    Leading folders that exist by that very name are taken literally, brackets included. A single match is returned
    whatever it is; of several, only the images, with one warning (none if ``quiet``) about the rest.

    Raises:
        QvggtError: nothing matches, or no image does.
    """
    paths = [Path(match) for match in glob.glob(literal_folders(pattern), recursive=True)]
    if not paths:
        raise QvggtError(f"nothing matches {quote(pattern)}: check the path or the pattern")
    if len(paths) == 1:
        return paths
    images = _keep_images(paths, None if quiet else f"among the matches of {quote(pattern)}")
    if not images:
        raise QvggtError(f"no image matches {quote(pattern)}: match {READABLE} files")
    return images


def literal_folders(pattern: str) -> str:
    """Return the pattern with the longest leading path that is a folder escaped."""
    parts = Path(pattern).parts
    for count in range(len(parts) - 1, 0, -1):
        folder = Path(*parts[:count])
        if folder.is_dir():
            return str(Path(glob.escape(str(folder)), *parts[count:]))
    return pattern


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the file names, or if two are equal, the paths relative to the common folder, with forward slashes."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    full = [Path(os.path.abspath(path)) for path in paths]
    try:
        common = os.path.commonpath([path.parent for path in full])
    except ValueError:  # on different drives
        return [path.as_posix() for path in full]
    return [path.relative_to(common).as_posix() for path in full]


def suggestion(names: Sequence[str], name: str) -> str:
    """Return what to say about a name that is not among ``names``."""
    folded = {known.casefold(): known for known in reversed(names)}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    shown = ", ".join(map(repr, names[:3]))
    return f"the {len(names)} frames are {shown}{', ...' if len(names) > 3 else ''}"


def _keep_images(paths: Sequence[Path], where: str | None) -> list[Path]:
    """Return the images among the paths in natural order, with warnings about other files if ``where`` is given.

    A raw file beside a developed image of the same name is the same photograph and is skipped.
    """
    files = sorted((path for path in paths if not path.is_dir()), key=natural_key)
    images = [path for path in files if suffix(path) in IMAGE_SUFFIXES | RAW_SUFFIXES and not path.name.startswith(".")]
    developed = {path.with_suffix("") for path in images if suffix(path) in IMAGE_SUFFIXES}
    kept = [path for path in images if suffix(path) in IMAGE_SUFFIXES or path.with_suffix("") not in developed]
    if where and images:
        known, taken = set(images), set(kept)
        others = [path for path in files if path not in known and not _is_system_file(path)]
        _warn_of_skipped(others, "non-image", where)
        raw = [path for path in images if path not in taken]
        _warn_of_skipped(raw, "camera raw", f"{where}, each beside an image of the same name")
    return kept


def _is_system_file(path: Path) -> bool:
    """Return whether a file is one that programs leave in folders, such as ``.DS_Store`` or a lock."""
    return path.name.startswith(".") and suffix(path) not in IMAGE_SUFFIXES | RAW_SUFFIXES


def _warn_of_skipped(skipped: Sequence[Path], kind: str, where: str) -> None:
    if skipped:
        noun = "file" if len(skipped) == 1 else "files"
        log.warning("skipped %d %s %s %s, first %s", len(skipped), kind, noun, where, quote(skipped[0].name))
