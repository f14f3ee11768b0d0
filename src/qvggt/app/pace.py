"""Whether a view is moving, and whether its browser draws slowly, from the times of its changes alone."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

_REST_S, _LONGEST_REST_S = 0.4, 10.0
_INTERVALS = 4.0
"""Intervals between changes without one, after which a view rests: a browser that draws slowly reports seldom."""
_RECENT, _LONGEST_GAP_S = 4, 10.0
"""Gaps between changes that count, and the longest of them: after that, the view was at rest for sure."""
_SLOW_S, _FAST_S = 0.25, 0.05
"""Interval from which on a browser counts as slow, and below which it does not any more."""


class Pace:
    """Tells a moving view from one that rests, and slow browsers from others.

    A browser reports a change once it has drawn, and often twice. The view of a slow one may seem to rest between two
    pictures; gaps before and after such a rest count all the same.

    Args:
        on_rest: called, in a thread of its own, when the view has come to rest.
        clock: time in seconds.

    Attributes:
        slow: whether changes come so seldom that the browser should get less to draw.
    """

    def __init__(self, on_rest: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._on_rest, self._clock = on_rest, clock
        self._lock = threading.Lock()
        self._last = -float("inf")
        self._gaps: deque[float] = deque(maxlen=_RECENT)
        self._timer: threading.Timer | None = None
        self.slow = False

    @property
    def moving(self) -> bool:
        """Whether the view has changed a short time ago."""
        return self._timer is not None

    def moved(self) -> None:
        """Take note of a change."""
        with self._lock:
            now = self._clock()
            if now - self._last < _LONGEST_GAP_S:
                self._gaps.append(now - self._last)
                self.slow = self._interval > (_FAST_S if self.slow else _SLOW_S)
            self._last = now
            if self._timer is None:
                self._wait(self._rest())

    def stop(self) -> None:
        """Forget about changes; nothing is called any more."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    @property
    def _interval(self) -> float:
        """Longest of the recent gaps; a pause between two moves is soon none of them."""
        return max(self._gaps, default=0.0)

    def _rest(self) -> float:
        return min(max(_REST_S, _INTERVALS * self._interval), _LONGEST_REST_S)

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._check)
        self._timer.daemon = True
        self._timer.start()

    def _check(self) -> None:
        with self._lock:
            if self._timer is None:
                return
            left = self._last + self._rest() - self._clock()
            if left > 0:
                self._wait(left)
                return
            self._timer = None
        self._on_rest()
