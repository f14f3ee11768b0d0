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
from qvggt.backends.reference import ReferenceBackend
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

_ALL: tuple[Backend, ...] = (CpuBackend(), CpuNativeBackend(), CpuInt8Backend(), ReferenceBackend())

BACKENDS: Mapping[str, Backend] = {backend.name: backend for backend in _ALL}
"""Every backend by name, the fastest first."""


def pick(device: str | torch.device, compute: Compute = "float") -> Backend:
    """Return the fastest backend that works on a device in a compute mode.

    Where integers cannot be multiplied, floats are, and a warning says why.

    Raises:
        QvggtError: the compute mode does not exist, or nothing works on the device.
    """
    device = torch.device(device)
    if compute not in get_args(Compute):
        raise QvggtError(f"compute mode {compute!r} is unknown: choose one of {', '.join(get_args(Compute))}")
    reasons = []
    for backend in BACKENDS.values():
        if backend.compute != compute:
            continue
        reason = backend.unsupported_reason(device)
        if reason is None:
            return backend
        reasons.append(reason)
    if compute != "float":
        log.warning("%s; computing in float", "; ".join(reasons))
        return pick(device)
    raise QvggtError("; ".join(reasons) or f"no backend computes in mode {compute!r}: choose another one")
