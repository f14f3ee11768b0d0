"""Folders in which this package keeps what can be made or downloaded again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qvggt.files import user_cache

_KNOWN = {
    "native": "compiled library",
    "compute": "measured compute modes",
    "eval": "results of evaluate",
    "compare": "checkpoints of compare",
}
"""Folders of the user's cache, and what they keep."""


@dataclass(frozen=True)
class Cache:
    """A folder that may be removed: its contents are made or downloaded again.

    Attributes:
        what: it keeps.
        folder: its path, whether or not it exists yet.
        files: number of files in it.
        bytes: their size; what several names share counts once.
    """

    what: str
    folder: str
    files: int
    bytes: int


def read_caches() -> tuple[Cache, ...]:
    """Return the folders of this package's cache, and the cache of the Hugging Face hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    own = user_cache()
    others = sorted(path.name for path in own.iterdir() if path.is_dir() and path.name not in _KNOWN)
    named = {**_KNOWN, **{name: name for name in others}}
    folders = {what: own / name for name, what in named.items()} | {"Hugging Face hub": Path(HF_HUB_CACHE)}
    return tuple(_cache(what, folder) for what, folder in folders.items())


def _cache(what: str, folder: Path) -> Cache:
    sizes = {(entry.st_dev, entry.st_ino): entry.st_size for entry in _files(folder)}
    return Cache(what, str(folder), len(sizes), sum(sizes.values()))


def _files(folder: Path) -> Iterator[os.stat_result]:
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            try:
                if not path.is_symlink():
                    yield path.stat()
            except OSError:  # removed meanwhile
                continue
