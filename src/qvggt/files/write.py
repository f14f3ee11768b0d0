"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from qvggt.types import PathLike, QvggtError

log = logging.getLogger(__name__)

_PROCESS = uuid.uuid4().hex[:8]
"""Of this process and its forks: the number of a process comes again."""


def user_cache() -> Path:
    """Return the folder for what can be made again: ``$XDG_CACHE_HOME/qvggt`` if absolute, or the system's own place.

    If that folder cannot be had (no home, no permission, owned by another user), a warning says so once, and the
    process gets a private temporary folder, which is removed when it ends.
    """
    try:
        return private_folder(_cache_home() / "qvggt")
    except (RuntimeError, QvggtError) as error:  # without a home, pathlib raises RuntimeError
        return _temporary_cache(str(error))


def _cache_home() -> Path:
    place = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if place.is_absolute():
        return place
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


_temporary: Path | None = None


def _temporary_cache(reason: str) -> Path:
    global _temporary
    if _temporary is None or not _temporary.is_dir():
        _temporary = Path(tempfile.mkdtemp(prefix="qvggt-cache-"))
        atexit.register(shutil.rmtree, _temporary, ignore_errors=True)
        log.warning(
            "no folder for caches (%s): set XDG_CACHE_HOME to keep caches; using %s (see qvggt doctor)",
            reason,
            _temporary,
        )
    return _temporary


def private_folder(folder: Path) -> Path:
    """Create a folder that only its owner can enter, and those above it; return it.

    Raises:
        QvggtError: it cannot be created or written, or another user owns it.
    """
    with system_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "geteuid"):
            status = folder.stat()
            if status.st_uid != os.geteuid():
                raise QvggtError(f"{folder} belongs to another user")
            if status.st_mode & 0o077:
                folder.chmod(0o700)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise QvggtError(f"{folder} cannot be written")
    return folder


@contextmanager
def new_file(path: PathLike, overwrite: bool = False) -> Iterator[Path]:
    """Write a temporary file and give it its name at the end; on any exception, Ctrl-C included, remove it.

    What is no file, such as ``/dev/stdout``, a pipe or a device, stays, and what was written is copied into it.

    Args:
        path: the name; missing folders above it are made.
        overwrite: whether an existing file may be replaced.

    Yields:
        The temporary file's path, on the same file system if it is renamed, and with the same ending; the caller
        creates it.

    Raises:
        QvggtError: the name is taken, or the system refuses to write.
    """
    target = Path(os.path.realpath(path))
    if os.path.isdir(target):
        raise QvggtError(f"{path} is a folder: give the name of a file")
    if is_special(path):
        with system_errors(Path(path)), tempfile.TemporaryDirectory(prefix="qvggt-") as place:
            temporary = Path(place) / f"file{target.suffix}"
            yield temporary
            with open(temporary, "rb") as source, open(path, "wb") as stream:
                shutil.copyfileobj(source, stream)
        return
    if os.path.exists(target) and not overwrite:
        raise QvggtError(f"{path} exists already: choose another name, or allow overwriting (--overwrite)")
    # A short name of its own: the target's may already be as long as the file system allows.
    owner = f"{_machine()}-{os.getpid()}-{_PROCESS}"
    temporary = target.with_name(f".qvggt-{owner}-{uuid.uuid4().hex[:8]}{target.suffix}")
    with system_errors(target), made_parents(target):
        _remove_temporaries(target.parent)
        try:
            yield temporary
            sync(temporary)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(target.parent)


def is_special(path: PathLike) -> bool:
    """Return whether a path is of something other than a file or folder: of a pipe, a device or a socket."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


@lru_cache(maxsize=1024)  # a process that writes many files into a folder looks at it once
def _remove_temporaries(folder: Path) -> None:
    """Remove files that ``new_file`` was writing directly in a folder when its process was killed.

    Their names say who writes them: files of processes that run, or of other machines and containers, are left.
    """
    for path in folder.glob(f".qvggt-{_machine()}-*"):
        owner = re.match(r"\.qvggt-[0-9a-f]{8}-(\d+)-([0-9a-f]{8})-", path.name)
        if owner is not None and not _is_running(int(owner[1]), owner[2]):
            with suppress(OSError):
                path.unlink()


def _is_running(pid: int, process: str) -> bool:
    if pid == os.getpid():
        return process == _PROCESS  # or an earlier one had the same number, as in a container
    import psutil

    return psutil.pid_exists(pid)


@lru_cache
def _machine() -> str:
    """Return 8 letters for the machine, or the container, in which numbers of processes mean the same."""
    namespace = ""
    with suppress(OSError):  # only Linux has them
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def make_folder(folder: PathLike) -> Path:
    """Create a folder and those above it where they are missing, and return it.

    Raises:
        QvggtError: the system refuses.
    """
    with system_errors(Path(folder)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


def json_text(value: Any) -> str:
    """Return indented JSON that ends with a line end; lists of plain numbers stay on one line.

    Raises:
        ValueError: the value holds NaN or infinity, which JSON does not have.
    """
    return _pretty(value, "") + "\n"


def write_json(path: PathLike, value: Any) -> None:
    """Write ``json_text`` of a value as UTF-8, whole or not at all, over what was there.

    Raises:
        QvggtError: the file cannot be written.
        ValueError: the value holds NaN or infinity, which JSON does not have.
    """
    text = json_text(value)
    with new_file(path, overwrite=True) as temporary:
        # A file's name need not be text: its stray bytes become \u escapes, which JSON reads back as they were.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def sync(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk, if the file system can say so (SMB and sshfs cannot)."""
    if os.name == "nt":
        return  # Windows syncs neither folders nor what is open for reading
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def explain(error: OSError, path: PathLike, doing: str) -> QvggtError:
    """Return the sentence that the user reads when the system refuses.

    Args:
        error: what the system said.
        path: what it was about.
        doing: "write" or "read".
    """
    reasons = {
        errno.ENOSPC: "the disk is full: free some space or choose another place",
        errno.EDQUOT: "your quota of disk space is used up: free some space or choose another place",
        errno.EFBIG: "the file is larger than the system allows: choose another place",
        errno.EROFS: "the file system is read-only: choose another place",
        errno.EACCES: "permission is denied: choose another place or change the permissions",
        errno.EPERM: "permission is denied: choose another place or change the permissions",
        errno.ENOTDIR: "a part of that path is a file or a broken link, not a folder: choose another place",
        errno.EEXIST: "a part of that path is a file or a broken link, not a folder: choose another place",
        errno.ELOOP: "its symbolic links lead in a circle: mend them or choose another place",
        errno.ENOENT: "there is no such file",
        errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    }
    reason = reasons.get(error.errno or 0) or f"the system says {error.strerror or error}"
    return QvggtError(f"cannot {doing} {path}: {reason}")


@contextmanager
def system_errors(target: Path) -> Iterator[None]:
    """Turn what the system refuses into a QvggtError about a file or folder."""
    try:
        yield
    except OSError as error:
        raise explain(error, target, "write") from error


@contextmanager
def made_parents(target: Path) -> Iterator[None]:
    """Make the folders above a file or folder; on an exception, remove those that were missing."""
    missing = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise


def _pretty(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = (f"{inner}{json.dumps(str(k), ensure_ascii=False)}: {_pretty(v, inner)}" for k, v in value.items())
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (list, dict)) for item in value):
        return "[\n" + ",\n".join(inner + _pretty(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
