"""Named tensors that are read one at a time, and the check of their names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from qvggt.types import QvggtError

_LISTED = 5


class TensorSource(Protocol):
    """Named tensors of a file or module, read one at a time."""

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        ...

    def tensor(self, name: str) -> Tensor:
        """Read a tensor."""
        ...


def check_tensors(misfit: str, found: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Raise QvggtError unless the same tensors were found as are wanted.

    Args:
        misfit: how the error begins, e.g. ``model.pt does not fit VGGT``.
        found: the shape, or type and shape, of each tensor by name.
        wanted: the same of the tensors that are expected.
    """
    missing, unexpected = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unexpected:
        raise QvggtError(
            f"{misfit}: {len(missing)} tensors are missing{_listed(missing)}, "
            f"{len(unexpected)} are unexpected{_listed(unexpected)}"
        )
    wrong = [f"{n} is {_text(found[n])} instead of {_text(wanted[n])}" for n in wanted if found[n] != wanted[n]]
    if wrong:
        raise QvggtError(f"{misfit}: {len(wrong)} tensors have another type or shape{_listed(sorted(wrong))}")


def _listed(items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return f" ({', '.join(items[:_LISTED])}{more})"


def _text(kind: object) -> str:
    """Return a shape as ``[2, 3]``, a type and shape as ``float16 [2, 3]``."""
    if isinstance(kind, tuple) and len(kind) == 2 and isinstance(kind[1], tuple):
        return f"{str(kind[0]).removeprefix('torch.')} {list(kind[1])}"
    return str(list(kind) if isinstance(kind, tuple) else kind)
