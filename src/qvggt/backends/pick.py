"""Choice of the backend for a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import get_args

import torch

from qvggt.backends.base import Backend
from qvggt.backends.cpu import CpuBackend
from qvggt.backends.cpu_int8 import CpuInt8Backend
from qvggt.backends.cpu_native import CpuNativeBackend
from qvggt.backends.cuda import CudaBackend
from qvggt.backends.cuda_int8 import CudaInt8Backend
from qvggt.backends.plain import HALF_DTYPES, PlainBackend
from qvggt.backends.reference import ReferenceBackend
from qvggt.options import Compute
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

_FOR: Mapping[str, tuple[Backend, ...]] = {
    "cpu": (CpuBackend(), *map(CpuBackend, HALF_DTYPES), CpuNativeBackend(), CpuInt8Backend()),
    "cuda": (CudaBackend(), *map(CudaBackend, HALF_DTYPES), CudaInt8Backend()),
}
"""Backends specific to a device type, fastest first."""
_ANYWHERE: tuple[Backend, ...] = (PlainBackend(), *map(PlainBackend, HALF_DTYPES), ReferenceBackend())

BACKENDS: Mapping[str, Backend] = {
    backend.name: backend for backends in (*_FOR.values(), _ANYWHERE) for backend in backends
}
"""Every backend by name."""


def canonical(compute: Compute) -> Compute:
    """Return a compute mode by its present name."""
    return "float32" if compute == "float" else compute


def pick(device: str | torch.device, compute: Compute = "float32") -> Backend:
    """Return the fastest backend that runs on a device in a compute mode other than ``auto`` (see ``choose``).

    If the fastest is unavailable, the next one is used; if no int8 backend is, a float one. A warning says why.

    Raises:
        QvggtError: the compute mode is unknown.
    """
    device, compute = torch.device(device), canonical(compute)
    modes = [mode for mode in get_args(Compute) if mode != "auto"]
    if compute not in modes:
        raise QvggtError(f"compute mode {compute!r} is unknown: choose one of {', '.join(modes)}")
    reasons = []
    for backend in (*_FOR.get(device.type, ()), *_ANYWHERE):
        if backend.compute != compute:
            continue
        reason = backend.unsupported_reason(device)
        if reason is None:
            if reasons:
                log.warning("%s; using %s instead (see qvggt doctor)", "; ".join(reasons), backend.name)
            return backend
        reasons.append(reason)
    no_backend = f"int8 products are available on {' and '.join(_FOR)}, not on {device}"
    log.warning("%s; computing in float32 (see qvggt doctor)", "; ".join(reasons) or no_backend)
    return pick(device)
