"""Weights that are read one tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class TensorSource(Protocol):
    """Named tensors behind a file or a module; only the one that is asked for need be in memory."""

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        ...

    def tensor(self, name: str) -> Tensor:
        """Read a tensor."""
        ...


class StateDictSource:
    """Tensors that are in memory already."""

    def __init__(self, state_dict: Mapping[str, Tensor]) -> None:
        self.state_dict = state_dict

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self.state_dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return tuple(self.state_dict[name].shape)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor."""
        return self.state_dict[name]
