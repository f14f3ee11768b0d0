"""Work of the compiled code on as many threads as torch uses."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_WORTH_A_THREAD = 1 << 20
"""Products of numbers below which a second thread costs more than it does."""


def threads_for(operations: int) -> int:
    """Return on how many threads so many products of numbers are best done."""
    return torch.get_num_threads() if operations >= _WORTH_A_THREAD else 1


def bounds(rows: int, threads: int) -> list[int]:
    """Share out rows among threads."""
    return [rows * index // threads for index in range(threads + 1)]


def on_threads(work: Callable[[int], int | None], threads: int) -> None:
    """Call ``work`` with every index, the last one on this thread.

    Raises:
        MemoryError: one of them returned another status than 0.
    """
    others = [_pool(threads).submit(work, index) for index in range(threads - 1)]
    statuses = [work(threads - 1), *(other.result() for other in others)]
    if any(statuses):
        raise MemoryError("there is no memory for a product's numbers")


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(threads - 1, 1), thread_name_prefix="qvggt-products")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
