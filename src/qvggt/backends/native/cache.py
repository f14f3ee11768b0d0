"""Compiled libraries in the user's cache: each beside a record of its size and hash, without which it is not loaded."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from qvggt.files import new_file, private_folder, user_cache, write_json
from qvggt.files.read import read_json
from qvggt.types import QvggtError

_KEY_CHARACTERS = 16
_UNUSED_DAYS = 60


def cached(key: str) -> Path | None:
    """Return the intact library of a key, or None if there is none: missing, cut short or altered.

    Raises:
        QvggtError: the cache belongs to another user.
    """
    folder = _folder()
    try:
        record = read_json(_record(folder, key))
        path = _library(folder, key, record["sha256"])
        contents = path.read_bytes()
    except (QvggtError, OSError, TypeError, KeyError):
        return None
    if len(contents) != record["bytes"] or hashlib.sha256(contents).hexdigest() != record["sha256"]:
        return None
    with suppress(OSError):
        os.utime(path)  # it is in use
    return path


def keep(key: str, contents: bytes) -> Path:
    """Write the library of a key and return its path.

    Its name holds its hash and the record is written last, so that processes that compile at once do not get in each
    other's way.

    Raises:
        QvggtError: it cannot be written.
    """
    folder, sha256 = _folder(), hashlib.sha256(contents).hexdigest()
    path = _library(folder, key, sha256)
    with new_file(path, overwrite=True) as temporary:
        temporary.write_bytes(contents)
    write_json(_record(folder, key), {"bytes": len(contents), "sha256": sha256})
    _remove_unused(folder)
    return path


def _remove_unused(folder: Path) -> None:
    """Remove libraries that no process has loaded for ``_UNUSED_DAYS``; other versions' are kept as long."""
    oldest = time.time() - _UNUSED_DAYS * 86400
    for path in folder.glob("products-*.so"):
        with suppress(OSError):  # gone meanwhile, or loaded on Windows
            if path.stat().st_mtime < oldest:
                path.unlink()


def _folder() -> Path:
    return private_folder(user_cache() / "native")


def _record(folder: Path, key: str) -> Path:
    return folder / f"products-{key}.json"


def _library(folder: Path, key: str, sha256: str) -> Path:
    return folder / f"products-{key}-{sha256[:_KEY_CHARACTERS]}.so"
