"""Compiled libraries in the user's cache: each beside a record of its size and hash, without which it is not loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from qvggt.files import new_file, private_folder, user_cache, write_json
from qvggt.files.read import read_json
from qvggt.types import QvggtError

_KEY_CHARACTERS = 16


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
    intact = len(contents) == record["bytes"] and hashlib.sha256(contents).hexdigest() == record["sha256"]
    return path if intact else None


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
    return path


def _folder() -> Path:
    return private_folder(user_cache() / "native")


def _record(folder: Path, key: str) -> Path:
    return folder / f"products-{key}.json"


def _library(folder: Path, key: str, sha256: str) -> Path:
    return folder / f"products-{key}-{sha256[:_KEY_CHARACTERS]}.so"
