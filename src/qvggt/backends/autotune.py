"""Choice between kernels for the same computation by measuring them on this machine."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Timer = Callable[[Callable[[], Tensor]], float]
"""Runs a call and returns its duration in seconds."""
_RUNS = 5


class Autotuner:
    """Measures the candidates for a problem when it first occurs, and uses the fastest from then on.

    Args:
        timer: measures one candidate.
    """

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._chosen: dict[Hashable, str] = {}
        self._failed: set[str] = set()

    def __call__(self, problem: Hashable, candidates: Mapping[str, Callable[[], Tensor]]) -> Tensor:
        """Return the result of the fastest candidate.

        Args:
            problem: key of the choice: everything that affects how fast the candidates are.
            candidates: kernels by name, the most reliable first. Any other that fails is logged as a warning and not
                tried again for any problem.
        """
        if problem not in self._chosen:
            self._chosen[problem] = min(candidates, key=lambda name: self._measured(name, candidates))
        return candidates[self._chosen[problem]]()

    def _measured(self, name: str, candidates: Mapping[str, Callable[[], Tensor]]) -> float:
        if name in self._failed:
            return math.inf
        try:
            return self._timer(candidates[name])
        except Exception as error:  # compilers and drivers raise errors of every type
            if name == next(iter(candidates)):
                raise
            self._failed.add(name)
            reason = (str(error) or type(error).__name__).splitlines()[0]
            log.warning("kernel %r fails on this machine (%s); using another", name, reason)
            return math.inf


def cuda_seconds(run: Callable[[], Tensor]) -> float:
    """Return the mean duration of a few calls on the current CUDA stream, after one warm-up call."""
    run()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(_RUNS):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / _RUNS
