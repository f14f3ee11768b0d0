"""Files that are either whole or not there, and operating-system errors in the user's words."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..types import PathLike, QvggtError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than is allowed there; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission is denied; choose a folder that you may write to",
    errno.EPERM: "permission is denied; choose a folder that you may write to",
    errno.ENOTDIR: "a part of this path is a file, not a folder; choose another path",
    errno.EEXIST: "a file of this name is in the way; choose another path or remove it",
    errno.EISDIR: "a folder of this name is in the way; choose another path or remove it",
    errno.ENOTEMPTY: "a folder of this name is in the way; choose another path or remove it",
    errno.ENOENT: "its folder does not exist; create it first",
    errno.ELOOP: "the path runs through a loop of symbolic links; choose another path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


@contextmanager
def os_errors_explained(path: PathLike) -> Iterator[None]:
    """Turn an ``OSError`` raised inside the ``with`` into a ``QvggtError`` that names ``path`` and a way out."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
        raise QvggtError(f"Cannot write {os.fspath(path)!r}: {reason}.") from error


def make_folder(folder: PathLike) -> Path:
    """Create ``folder`` and its parents where they are missing, and return it.

    Raises:
        QvggtError: if it cannot be created.
    """
    with os_errors_explained(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Give a temporary path beside ``path``, with the same suffix, that becomes ``path`` when the ``with`` ends well.

    An exception in the body, ``KeyboardInterrupt`` included, removes the temporary file and leaves what was at ``path``
    as it was.

    Raises:
        QvggtError: for a full disk, a read-only folder and the like.
    """
    target = Path(path)
    # A short name of its own: the target's name may already be as long as the file system allows.
    temporary = target.with_name(f".qvggt-{os.getpid()}-{secrets.token_hex(4)}{target.suffix}")
    with os_errors_explained(target):
        try:
            yield temporary
            # Synced before the rename, or a power cut could leave the new name on empty contents.
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
            os.replace(temporary, target)
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise


def write_json(path: PathLike, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON, whole or not at all; lists of plain numbers stay on one line.

    Raises:
        QvggtError: if the file cannot be written.
        ValueError: if ``value`` holds a NaN or an infinity, which JSON does not have.
    """
    text = _pretty(value, "") + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _pretty(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = (f"{inner}{json.dumps(str(k), ensure_ascii=False)}: {_pretty(v, inner)}" for k, v in value.items())
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (list, dict)) for item in value):
        return "[\n" + ",\n".join(inner + _pretty(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
