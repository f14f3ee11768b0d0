"""An output file that takes long to write: what a killed command left of it goes with the next one.

.qvggt-<key>.lock          beside the file, while a command writes it; the key is a hash of the file's name
.qvggt-<key>-<id>/NAME     the unfinished file, in a folder of its own
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from qvggt.files.folder import held_lock
from qvggt.files.write import is_special, made_parents, sync, system_errors
from qvggt.types import PathLike, QvggtError


@contextmanager
def new_output(path: PathLike, overwrite: bool = False, others: Collection[str] = ()) -> Iterator[Path]:
    """Write a file in a folder of its own and give it its name at the end; on any exception, remove it.

    Args:
        path: the name; missing folders above it are made.
        overwrite: whether existing files may be replaced.
        others: names of files that are written beside it and get their names first.

    Yields:
        The unfinished file's path; the caller creates it. Its folder takes other temporary files too.

    Raises:
        QvggtError: a name is taken or of no file, another command is writing the file, or the system refuses to write.
    """
    if is_special(path):
        raise QvggtError(f"{path} is a device or a pipe: give the name of a file")
    target = Path(os.path.realpath(path))
    places = [*(target.with_name(name) for name in others), target]
    for place in places:
        _check_place(place, overwrite)
    prefix = f".qvggt-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]}"
    lock = target.with_name(f"{prefix}.lock")
    with system_errors(target), made_parents(target):
        killed = lock.exists()  # or running, and then the lock is refused
        with held_lock(lock, target):
            for left in target.parent.glob(f"{prefix}-*") if killed else ():
                shutil.rmtree(left, ignore_errors=True)
            staging = target.with_name(f"{prefix}-{uuid.uuid4().hex[:8]}")
            try:
                staging.mkdir()
                yield staging / target.name
                for place in places:
                    sync(staging / place.name)
                for place in places:
                    (staging / place.name).replace(place)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            sync(target.parent)


def _check_place(place: Path, overwrite: bool) -> None:
    if place.is_dir():
        raise QvggtError(f"{place} is a folder: give the name of a file")
    if place.exists() and not overwrite:
        raise QvggtError(f"{place} exists already: choose another name, or allow overwriting (--overwrite)")
