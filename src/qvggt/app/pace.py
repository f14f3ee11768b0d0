"""Whether a view is moving, from the times of its changes alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_REST_S, _LONGEST_REST_S = 0.4, 5.0
_INTERVALS = 4.0
"""Intervals between changes without one, after which a view rests: a browser that draws slowly reports seldom."""


class Pace:
    """Tells a moving view from one that rests.

    Args:
        on_rest: called, in a thread of its own, when the view has come to rest.
        clock: time in seconds.
    """

    def __init__(self, on_rest: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._on_rest, self._clock = on_rest, clock
        self._lock = threading.Lock()
        self._last: float | None = None
        self._interval = 0.0
        self._timer: threading.Timer | None = None

    @property
    def moving(self) -> bool:
        """Whether the view has changed a short time ago."""
        return self._last is not None

    def moved(self) -> None:
        """Take note of a change."""
        with self._lock:
            now = self._clock()
            if self._last is not None:
                self._interval += (now - self._last - self._interval) / 3
            else:
                self._interval = 0.0
            self._last = now
            if self._timer is None:
                self._wait(self._rest())

    def stop(self) -> None:
        """Forget about changes; nothing is called any more."""
        with self._lock:
            self._last = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _rest(self) -> float:
        return min(max(_REST_S, _INTERVALS * self._interval), _LONGEST_REST_S)

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._check)
        self._timer.daemon = True
        self._timer.start()

    def _check(self) -> None:
        with self._lock:
            if self._timer is None or self._last is None:
                return
            left = self._last + self._rest() - self._clock()
            if left > 0:
                self._wait(left)
                return
            self._timer = self._last = None
        self._on_rest()
