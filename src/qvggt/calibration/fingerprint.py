"""Fingerprint of everything that a measurement depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

_CHARACTERS = 32


def fingerprint(tensors: Iterable[Tensor], *facts: object) -> str:
    """Return a hash of tensors' types, shapes and values, and of the representations of other facts."""
    digest = hashlib.sha256(repr(facts).encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:_CHARACTERS]
