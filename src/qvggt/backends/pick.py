"""Which backend a model gets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import get_args

import torch

from qvggt.backends.base import Backend, Compute
from qvggt.backends.cpu import CpuBackend
from qvggt.backends.cpu_int8 import CpuInt8Backend
from qvggt.backends.cpu_native import CpuNativeBackend
from qvggt.backends.cuda import CudaBackend
from qvggt.backends.cuda_int8 import CudaInt8Backend
from qvggt.backends.plain import PlainBackend
from qvggt.backends.reference import ReferenceBackend
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

_FOR: Mapping[str, tuple[Backend, ...]] = {
    "cpu": (CpuBackend(), CpuNativeBackend(), CpuInt8Backend()),
    "cuda": (CudaBackend(), CudaInt8Backend()),
}
"""What is made for a type of device, the fastest first."""
_ANYWHERE: tuple[Backend, ...] = (PlainBackend(), ReferenceBackend())

BACKENDS: Mapping[str, Backend] = {
    backend.name: backend for backends in (*_FOR.values(), _ANYWHERE) for backend in backends
}
"""Every backend by name."""


def pick(device: str | torch.device, compute: Compute = "float") -> Backend:
    """Return the fastest backend that works on a device in a compute mode.

    Where the fastest does not work, the next one takes its place, and where integers cannot be multiplied floats are; a
    warning says why.

    Raises:
        QvggtError: the compute mode does not exist.
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
                log.warning("%s; %s takes its place", "; ".join(reasons), backend.name)
            return backend
        reasons.append(reason)
    none_made = f"integer products are for {' and '.join(_FOR)} so far, not for {device}"
    log.warning("%s; computing in float", "; ".join(reasons) or none_made)
    return pick(device)
