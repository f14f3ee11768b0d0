"""Jobs for the compiled code, done by the threads that torch computes on."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import torch
from torch import Tensor

from qvggt.backends.native.library import library
from qvggt.backends.native.processors import processor

_WORTH_A_THREAD = 1 << 20
"""Products of numbers below which a second thread costs more than it does."""


class Job(ctypes.Structure):
    """What every job of the C code begins with; its fields, and those of the others, are described there."""

    does: ClassVar[str]
    _fields_ = tuple((name, ctypes.c_int32) for name in ("next", "failed", "threads"))


def pointer(tensor: Tensor | None) -> int | None:
    """Return a tensor's address as a field of a job takes it."""
    return None if tensor is None else tensor.data_ptr()


def is_compiled(job: type[Job]) -> bool:
    """Return whether such jobs can be done on this machine's kind of processor."""
    kind = processor()
    return kind is not None and job.does in kind.jobs


def run(job: Job, operations: int) -> None:
    """Do a job on as many threads as torch uses, or on one if it is of too few products of numbers.

    Raises:
        MemoryError: there is no room for what a thread needs.
    """
    work = getattr(library(), job.does)
    job.threads = torch.get_num_threads() if operations >= _WORTH_A_THREAD else 1
    if job.threads == 1:
        work(ctypes.byref(job))
    elif team := _torch_team():
        team(ctypes.cast(work, ctypes.c_void_p), ctypes.byref(job), job.threads, 0)
    else:
        others = [_pool(job.threads).submit(work, ctypes.byref(job)) for _ in range(job.threads - 1)]
        work(ctypes.byref(job))
        for other in others:
            other.result()
    if job.failed:
        raise MemoryError("there is no memory for a product's numbers")


@functools.cache
def _torch_team() -> Callable[..., None] | None:
    """Return what sets torch's own threads to work (OpenMP), or None if it cannot be had.

    Threads of another kind would share the cores with torch's, which wait for their next work without rest.
    """
    try:
        team = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, TypeError, OSError):
        return None
    team.argtypes, team.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return team


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="qvggt-products")


def _after_fork() -> None:
    """Threads do not survive a fork, and OpenMP's would be waited for."""
    global _torch_team
    _torch_team = functools.cache(lambda: None)
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
