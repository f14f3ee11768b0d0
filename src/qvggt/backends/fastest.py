"""Choosing between ways to compute the same by what they take on the machine at hand."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Timer = Callable[[Callable[[], Tensor]], float]
"""Returns the seconds that a call takes."""
_RUNS = 5


class Fastest:
    """Measures ways to compute the same when their task is first seen, and from then on takes the fastest.

    Args:
        seconds: what measures a way.
    """

    def __init__(self, seconds: Timer) -> None:
        self._seconds = seconds
        self._chosen: dict[Hashable, str] = {}
        self._failed: set[str] = set()

    def __call__(self, task: Hashable, ways: Mapping[str, Callable[[], Tensor]]) -> Tensor:
        """Return the result of the fastest way.

        Args:
            task: what decides how fast the ways are; the choice is kept for it as long as the object lives.
            ways: the surest first. One of the others that fails is not tried again, for this task or another, and a
                warning says why.
        """
        if task not in self._chosen:
            self._chosen[task] = min(ways, key=lambda name: self._measured(name, ways))
        return ways[self._chosen[task]]()

    def _measured(self, name: str, ways: Mapping[str, Callable[[], Tensor]]) -> float:
        if name in self._failed:
            return math.inf
        try:
            return self._seconds(ways[name])
        except Exception as error:  # compilers and drivers raise errors of every type
            if name == next(iter(ways)):
                raise
            self._failed.add(name)
            reason = (str(error) or type(error).__name__).splitlines()[0]
            log.warning("products %r do not work on this machine (%s); others serve", name, reason)
            return math.inf


def seconds_on_cuda(run: Callable[[], Tensor]) -> float:
    """Return the mean time of a few calls in a row on the current CUDA stream, after one that compiles and warms up."""
    run()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(_RUNS):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / _RUNS
