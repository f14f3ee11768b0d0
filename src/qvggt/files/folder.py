"""Output folders: filled file by file, never replaced, whole after a kill at any moment.

Files are written to a staging folder, beside a new output folder or inside an existing one:

    .NAME.<id>.qvggt-staging/    beside OUT: renamed to OUT in one step at the end
    OUT/.qvggt-staging-<id>/     inside OUT: its files are renamed into OUT one by one

Renaming one by one is guarded by a journal: once ``OUT/.qvggt-journal.json`` exists, every file is complete in the
staging folder, and whoever finds the journal can finish the renames. Before it exists, OUT is as it was. The last file
renamed is ``OUT/.qvggt-manifest.json``, which lists what the command wrote; overwriting removes only what a manifest
lists. A lock file (``.qvggt-lock``) is held while a command writes, so a second one is refused, and staging folders
that are found once the lock is taken belong to processes that are gone.
"""

from __future__ import annotations

import glob
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from qvggt.files.read import read_json_object, reading
from qvggt.files.write import explain, made_parents, sync, system_errors, write_json
from qvggt.types import PathLike, QvggtError

MANIFEST, JOURNAL, LOCK = ".qvggt-manifest.json", ".qvggt-journal.json", ".qvggt-lock"
_STAGING, _BESIDE = ".qvggt-staging-", ".qvggt-staging"
_SYSTEM_FILES = frozenset({".DS_Store", ".directory", "Thumbs.db", "desktop.ini", "lost+found"})
"""Files that systems put into folders by themselves; they do not make a folder occupied."""


@contextmanager
def new_folder(folder: PathLike, contents: Collection[str], overwrite: bool = False) -> Iterator[Path]:
    """Fill an output folder with the files that are written to a staging folder; on any exception, change nothing.

    Args:
        folder: the output folder; missing folders above it are made, and removed again on an exception.
        contents: names of the files that the command may write, and of the folders with a ``/`` at the end; only they
            are replaced.
        overwrite: whether an earlier result, and files named in ``contents``, may be replaced. The user's own files
            stay in any case.

    Yields:
        The staging folder, on the same file system.

    Raises:
        QvggtError: the folder is occupied, another command is writing to it, or the system refuses to write.
    """
    target = Path(os.path.realpath(folder))
    with system_errors(target), ExitStack() as stack:
        _check_target(target, contents, overwrite)
        stack.enter_context(made_parents(target))
        stack.enter_context(lock_folder(target))
        if target.is_dir():
            _complete(target)
            _check_target(target, contents, overwrite)  # it may have been filled before the lock was taken
        staging = _free_staging(target)
        stack.callback(_discard, staging)  # an interrupt may come as soon as it exists
        staging.mkdir()
        yield staging
        names = _files_below(staging)
        write_json(staging / MANIFEST, {"format": 1, "files": names})
        for name in (*names, *_folders(names), "."):
            sync(staging / name)
        if target.exists():
            replaceable = [name.rstrip("/") for name in contents] if overwrite else []
            with lock_folder(target) if staging.parent != target else nullcontext():  # made by somebody else meanwhile
                _fill(target, staging, names, replaceable)
        else:
            staging.rename(target)
            sync(target.parent)


def check_folder(folder: PathLike, contents: Collection[str], overwrite: bool = False) -> None:
    """Raise QvggtError where ``new_folder`` would refuse a folder: call it before a long computation."""
    target = Path(os.path.realpath(folder))
    with system_errors(target):
        _check_target(target, contents, overwrite)


def check_space(folder: PathLike, needed_bytes: int) -> None:
    """Raise QvggtError if the disk of a folder, which need not exist yet, has less free space than needed.

    Args:
        folder: where files will be written.
        needed_bytes: estimated size of the files.
    """
    place = Path(os.path.realpath(folder))
    place = next(parent for parent in (place, *place.parents) if os.path.exists(parent))
    with suppress(OSError):
        free = shutil.disk_usage(place).free
        if free < needed_bytes:
            raise QvggtError(
                f"the disk is full: {folder} needs about {needed_bytes / 1e6:.0f} MB and {free / 1e6:.0f} MB are free; "
                "free some space or choose another place"
            )


def finish_folder(folder: PathLike) -> None:
    """Complete what a killed command left undone in a folder and beside it; call it before reading a result.

    Raises:
        QvggtError: another command is writing to the folder, or the renames cannot be completed.
    """
    target = Path(os.path.abspath(folder))
    if os.path.exists(target / JOURNAL):
        with system_errors(target), lock_folder(target):
            _complete(target)
    if target.name and os.path.isdir(target):
        _clear_beside(target)


def written_files(folder: PathLike) -> list[str]:
    """Return the files, by their names below a folder, that the last command wrote there; none if that is unknown."""
    return _manifest(Path(folder) / MANIFEST)


def clear_leftovers(folder: PathLike) -> None:
    """Remove what killed processes left beside an output folder, unless another one is writing it now."""
    _clear_beside(Path(os.path.realpath(folder)))


def _check_target(target: Path, contents: Collection[str], overwrite: bool) -> None:
    if target.is_symlink():
        raise QvggtError(f"{target} is a symbolic link that leads in a circle: choose another place")
    if not target.exists():
        return
    if not target.is_dir():
        raise QvggtError(f"{target} is a file: give the name of a folder")
    names = (path.name for path in target.iterdir())
    occupied = any(name not in _SYSTEM_FILES and not name.startswith(".qvggt-") for name in names)
    if (occupied or (target / JOURNAL).exists() or (target / MANIFEST).exists()) and not overwrite:
        raise QvggtError(f"{target} exists already: choose another folder, or allow overwriting (--overwrite)")
    for name in contents:
        found, wanted = ("file", "folder") if name.endswith("/") else ("folder", "file")
        place = target / name
        if place.exists() and place.is_dir() != (wanted == "folder"):
            raise QvggtError(f"{place} is a {found}, and a {wanted} of that name is written: choose another folder")


@contextmanager
def lock_folder(folder: PathLike) -> Iterator[None]:
    """Hold the lock of an output folder: inside it, or beside it while it does not exist.

    Raises:
        QvggtError: another command holds it, or it cannot be written.
    """
    target = Path(folder)
    with held_lock(target / LOCK if target.is_dir() else target.with_name(f".{target.name}{LOCK}"), target):
        yield


@contextmanager
def held_lock(path: Path, target: Path) -> Iterator[None]:
    """Hold a lock file, which is removed at the end.

    Args:
        path: the lock file.
        target: what it guards, for the sentence.

    Raises:
        QvggtError: another command holds it, or it cannot be written.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    busy = f"another command is writing to {target}: wait for it, or choose another folder"
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise QvggtError(busy) from None
    except NotImplementedError:  # a file system without locks
        lock = SoftFileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise QvggtError(f"{busy}; if there is none, remove {path}") from None
        except OSError as error:
            raise explain(error, target, "write") from error
    except OSError as error:
        raise explain(error, target, "write") from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)  # while it is held: whoever opened it before finds that it is gone
        lock.release()


def _free_staging(target: Path) -> Path:
    """Return the place of a new staging folder, after removing those of processes that are gone."""
    name = uuid.uuid4().hex[:8]
    if target.is_dir():
        _clear_beside(target)
        for left in target.glob(f"{_STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)
        return target / f"{_STAGING}{name}"
    for left in _staging_beside(target):
        shutil.rmtree(left, ignore_errors=True)
    return target.with_name(f".{target.name}.{name}{_BESIDE}")


def _staging_beside(target: Path) -> list[Path]:
    return list(target.parent.glob(f".{glob.escape(target.name)}.????????{_BESIDE}"))


def _clear_beside(target: Path) -> None:
    """Remove what processes left beside a folder that were killed before, or while, it came to be."""
    lock = target.with_name(f".{target.name}{LOCK}")
    with suppress(OSError, QvggtError):
        if os.path.exists(lock):  # whoever was killed held it; no scan of a folder that may hold thousands of scenes
            with held_lock(lock, target):
                for left in _staging_beside(target):
                    shutil.rmtree(left, ignore_errors=True)


def _discard(staging: Path) -> None:
    """Remove a staging folder, unless a journal needs its files."""
    if not (staging.parent / JOURNAL).exists():
        shutil.rmtree(staging, ignore_errors=True)


def _fill(target: Path, staging: Path, names: list[str], replaceable: Collection[str]) -> None:
    """Move complete files from the staging folder into the target, guarded by a journal."""
    old = _manifest(target / MANIFEST)
    for name in names:
        place = target / name
        if place.is_dir() or any(parent.is_file() for parent in place.parents):
            raise QvggtError(f"{place} cannot be written, a file or folder is in its way: choose another folder")
        if place.exists() and name not in old and name.partition("/")[0] not in replaceable:
            raise QvggtError(f"{place} appeared meanwhile and is not replaced: choose another folder")
    if staging.parent != target:
        staging = Path(shutil.move(staging, target / f"{_STAGING}{uuid.uuid4().hex[:8]}"))
    journal = {"staging": staging.name, "files": names, "remove": sorted(set(old) - set(names))}
    write_json(staging / JOURNAL, journal)
    os.replace(staging / JOURNAL, target / JOURNAL)
    sync(target)
    _complete(target)


def _complete(target: Path) -> None:
    """Do what the journal of a folder says, if there is one; may be repeated after a kill at any moment.

    Needs no free space: every file, the manifest included, is in the staging folder already.
    """
    if not (target / JOURNAL).exists():
        return
    staging, names, remove = _read_journal(target)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (staging / name).exists():
            os.replace(staging / name, target / name)
    for name in remove:
        (target / name).unlink(missing_ok=True)
    for name in sorted(_folders(remove), reverse=True):
        with suppress(OSError):  # the user's own files keep a folder
            (target / name).rmdir()
    sync(target)
    if (staging / MANIFEST).exists():
        os.replace(staging / MANIFEST, target / MANIFEST)
    shutil.rmtree(staging, ignore_errors=True)
    (target / JOURNAL).unlink()
    sync(target)


def _read_journal(target: Path) -> tuple[Path, list[str], list[str]]:
    remedy = "remove it, and write the folder again with --overwrite"
    journal = read_json_object(target / JOURNAL, remedy)
    with reading(target / JOURNAL, remedy):
        staging = target / Path(str(journal["staging"])).name
        names, remove = _inside(journal["files"]), _inside(journal["remove"])
        if not staging.name.startswith(_STAGING) or not _is_file_name(staging.name):
            raise ValueError(f"its staging folder is {staging.name[:60]!r}")
        if not staging.is_dir() and not all((target / name).exists() for name in names):
            raise ValueError(f"{staging.name} is missing")
        return staging, names, remove


def _manifest(path: Path) -> list[str]:
    """Return the files that the last command wrote into a folder, by their names below it; none if it is unknown."""
    try:
        return _inside(read_json_object(path)["files"])
    except (QvggtError, KeyError, TypeError):
        return []


def _inside(names: object) -> list[str]:
    """Return the names that do not lead out of a folder: journals and manifests may come from elsewhere."""
    if not isinstance(names, list):
        raise TypeError(f"expected a list of names, got {type(names).__name__}")
    paths = [Path(name) for name in names if isinstance(name, str) and _is_file_name(name)]
    return [path.as_posix() for path in paths if path.parts and not path.is_absolute() and ".." not in path.parts]


def _is_file_name(name: str) -> bool:
    try:
        return len(os.fsencode(name)) > 0 and "\0" not in name
    except UnicodeEncodeError:
        return False


def _files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _folders(names: Collection[str]) -> set[str]:
    """Return the folders, at any depth, that files named relative to one folder lie in."""
    return {parent.as_posix() for name in names for parent in Path(name).parents if parent != Path(".")}
