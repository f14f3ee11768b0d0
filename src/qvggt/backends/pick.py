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
from qvggt.backends.plain import PlainBackend
from qvggt.backends.reference import ReferenceBackend
from qvggt.options import Compute
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

_FOR: Mapping[str, tuple[Backend, ...]] = {
    "cpu": (CpuBackend(), CpuNativeBackend(), CpuInt8Backend()),
    "cuda": (CudaBackend(), CudaInt8Backend()),
}
"""Backends specific to a device type, fastest first."""
_ANYWHERE: tuple[Backend, ...] = (PlainBackend(), ReferenceBackend())

BACKENDS: Mapping[str, Backend] = {
    backend.name: backend for backends in (*_FOR.values(), _ANYWHERE) for backend in backends
}
"""Every backend by name."""


def pick(device: str | torch.device, compute: Compute = "float") -> Backend:
    """Return the fastest backend that runs on a device in a compute mode.

    If the fastest is unavailable, the next one is used; if no int8 backend is, a float one. A warning says why.

    Raises:
        QvggtError: the compute mode is unknown.
    """
    device = torch.device(device)
    if compute not in get_args(Compute):
        raise QvggtError(f"compute mode {compute!r} is unknown: choose one of {', '.join(get_args(Compute))}")
    reasons = []
    for backend in (*_FOR.get(device.type, ()), *_ANYWHERE):
        if backend.compute != compute:
            continue
        reason = backend.unsupported_reason(device)
        if reason is None:
            if reasons:
                log.warning("%s; using %s instead", "; ".join(reasons), backend.name)
            return backend
        reasons.append(reason)
    no_backend = f"int8 products are available on {' and '.join(_FOR)}, not on {device}"
    log.warning("%s; computing in float", "; ".join(reasons) or no_backend)
    return pick(device)
