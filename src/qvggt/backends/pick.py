"""Which backend a model gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import torch

from qvggt.backends.base import Backend, Compute
from qvggt.backends.cpu import CpuBackend
from qvggt.backends.reference import ReferenceBackend
from qvggt.types import QvggtError

BACKENDS: Mapping[str, Backend] = {backend.name: backend for backend in (CpuBackend(), ReferenceBackend())}
"""Every backend by name, the fastest first."""


def pick(device: str | torch.device, compute: Compute = "float") -> Backend:
    """Return the fastest backend that works on a device in a compute mode.

    Raises:
        QvggtError: there is none; the sentence says why.
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
    raise QvggtError("; ".join(reasons) or f"no backend computes in mode {compute!r}: choose another one")
