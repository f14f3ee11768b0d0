"""Calls of C kernels on torch's threads."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import torch
from torch import Tensor

from qvggt.backends.native.buffers import address
from qvggt.backends.native.library import library
from qvggt.backends.native.processors import processor

_WORTH_A_THREAD = 1 << 20
"""Smallest number of multiplications for which a second thread pays off."""


class Job(ctypes.Structure):
    """Arguments of a C kernel: the struct ``Job`` of job.h, which every struct of arguments begins with."""

    function: ClassVar[str]
    _fields_ = tuple((name, ctypes.c_int32) for name in ("next", "failed", "threads"))

    def bind(self, name: str, tensor: Tensor | None, dtype: torch.dtype, *shape: int, contiguous: bool = True) -> None:
        """Set a pointer to a tensor's memory and keep the tensor alive; None leaves the pointer NULL.

        Raises:
            ValueError: the tensor is not what the kernel expects (see ``address``).
        """
        if tensor is not None:
            setattr(self, name, address(tensor, dtype, shape, contiguous))
            setattr(self, f"{name}_tensor", tensor)

    def bind_strided(self, name: str, tensor: Tensor | None, dtype: torch.dtype, *shape: int) -> None:
        """Bind a tensor of four dimensions and its first three strides (``<name>_step``); channels are made adjacent.

        Raises:
            ValueError: the tensor is not what the kernel expects.
        """
        if tensor is not None:
            tensor = tensor if tensor.stride(-1) == 1 else tensor.contiguous()
            self.bind(name, tensor, dtype, *shape, contiguous=False)
            setattr(self, f"{name}_step", tensor.stride()[:3])


def is_compiled(job: type[Job]) -> bool:
    """Return whether the kernel exists for this machine's processor."""
    kind = processor()
    return kind is not None and job.function in kind.functions


def run(job: Job, operations: int) -> None:
    """Run a kernel on as many threads as torch uses, or on one if it has too few operations.

    Raises:
        MemoryError: the kernel could not allocate its scratch memory.
    """
    work = getattr(library(), job.function)
    job.threads = torch.get_num_threads() if operations >= _WORTH_A_THREAD else 1
    if job.threads == 1:
        work(ctypes.byref(job))
    elif parallel := _openmp_parallel():
        parallel(ctypes.cast(work, ctypes.c_void_p), ctypes.byref(job), job.threads, 0)
    else:
        others = [_pool(job.threads).submit(work, ctypes.byref(job)) for _ in range(job.threads - 1)]
        work(ctypes.byref(job))
        for other in others:
            other.result()
    if job.failed:
        raise MemoryError(f"{job.function} could not allocate scratch memory")


@functools.cache
def _openmp_parallel() -> Callable[..., None] | None:
    """Return libgomp's ``GOMP_parallel``, which runs a function on torch's own threads, or None.

    Other threads would compete for the cores with torch's OpenMP threads, which spin while idle.
    """
    try:
        parallel = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, TypeError, OSError):
        return None
    parallel.argtypes, parallel.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return parallel


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="qvggt-native")


def _after_fork() -> None:
    """Forget thread pools: threads do not survive a fork, and OpenMP would wait for its own forever."""
    global _openmp_parallel
    _openmp_parallel = functools.cache(lambda: None)
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
