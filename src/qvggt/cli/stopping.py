"""Stop signals (Ctrl-C, SIGTERM, SIGHUP): one exception unwinds the command, so that it cleans up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "the terminal was closed"}
_PATIENCE_S = 5.0


class Stopped(KeyboardInterrupt):
    """A signal stopped the program.

    Attributes:
        status: exit status, 128 plus the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(_WORDS[signal.Signals(number).name])
        self.status = 128 + number


@contextmanager
def clean_stop() -> Iterator[None]:
    """Raise ``Stopped`` on stop signals.

    Further signals within a few seconds are ignored: a second Ctrl-C would interrupt the cleanup. A signal that the
    parent process ignores (``nohup``) stays ignored.
    """
    last = float("-inf")

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _PATIENCE_S:
            last = now
            raise Stopped(number)

    before = {}
    for name in _WORDS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN and _in_main_thread():
            before[number] = signal.signal(number, stop)
    try:
        yield
    except Stopped:
        # Cleanup is done; ignore signals while Python exits.
        before = dict.fromkeys(before, signal.SIG_IGN)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()  # only this one may set handlers
