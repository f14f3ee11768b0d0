"""Temporary files of the app: a folder for each visitor, removed when they are gone, at exit, and after a kill."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

_PREFIX, _LOCK = "qvggt-app-", ".lock"


@contextmanager
def own_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new private folder that is removed at the end; first, remove those of processes that were killed.

    Each folder has a lock file beside it, which its process holds: a folder whose lock can be taken has no owner.

    Args:
        parent: folder for it; None for the system's temporary folder.
    """
    place = (parent or Path(tempfile.gettempdir())).resolve()
    _remove_ownerless(place)
    folder = place / f"{_PREFIX}{secrets.token_hex(8)}"
    lock = FileLock(folder.with_suffix(_LOCK))
    with lock:  # before the folder exists, so that nobody finds it without an owner
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.with_suffix(_LOCK).unlink(missing_ok=True)


def _remove_ownerless(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*/"):
        path = folder.with_suffix(_LOCK)
        lock = FileLock(path, timeout=0)
        try:
            with lock:
                shutil.rmtree(folder)
                path.unlink(missing_ok=True)
        except (Timeout, OSError):  # in use, or another user's
            continue
        log.info("removed %s, which a killed app left", folder)


@dataclass
class Session:
    """A visitor.

    Attributes:
        folder: for their files.
        expires: when it is removed, by the clock of ``Sessions``.
        stopped: set if their reconstruction is to end.
        uploads: their files in the server's upload folder.
    """

    folder: Path
    expires: float
    stopped: threading.Event = field(default_factory=threading.Event)
    uploads: set[Path] = field(default_factory=set)


class Sessions:
    """The visitors of an app.

    Args:
        folder: existing folder for theirs.
        idle_seconds: time without a request after which a visitor's files are removed.
        closed_seconds: the same after their page was closed; phones also close pages that are in the background.
        clock: seconds.
    """

    def __init__(
        self,
        folder: Path,
        idle_seconds: float = 3600.0,
        closed_seconds: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._idle, self._closed, self._clock = folder, idle_seconds, closed_seconds, clock
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def visit(self, name: str, uploads: Iterable[Path] = ()) -> Session:
        """Return the session of a page's name, a new one for a new name, and keep it for longer.

        Args:
            name: that the page chose.
            uploads: files to be removed with it.
        """
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                folder = self._folder / secrets.token_hex(16)  # whoever knows the name can read the files
                folder.mkdir(mode=0o700)
                session = self._sessions[name] = Session(folder, 0.0)
            session.expires = self._clock() + self._idle
            session.uploads.update(uploads)
            return session

    def close(self, name: str) -> None:
        """Stop what runs for a page that was closed, and keep its files for a short time, as it may come back."""
        with self._lock:
            session = self._sessions.get(name)
            if session is not None:
                session.stopped.set()
                session.expires = min(session.expires, self._clock() + self._closed)

    def sweep(self) -> None:
        """Remove the files of visitors who are gone."""
        with self._lock:
            now = self._clock()
            gone = [name for name, session in self._sessions.items() if session.expires <= now]
            removed = [self._sessions.pop(name) for name in gone]
            used = {path for session in self._sessions.values() for path in session.uploads}
        for session in removed:
            session.stopped.set()
            shutil.rmtree(session.folder, ignore_errors=True)
            for path in session.uploads - used:  # equal files of two visitors are one
                path.unlink(missing_ok=True)

    @contextmanager
    def sweeping(self, every_seconds: float = 30.0) -> Iterator[None]:
        """Sweep from time to time in a thread, and at the end stop what runs for visitors."""
        ended = threading.Event()

        def loop() -> None:
            while not ended.wait(every_seconds):
                self.sweep()

        thread = threading.Thread(target=loop, name="qvggt-app-sweep", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for session in self._sessions.values():
                session.stopped.set()
