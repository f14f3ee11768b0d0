"""The methods by name: ours, and those that other packages announce."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from qvggt.methods.awq import Awq
from qvggt.methods.base import Method
from qvggt.methods.gptq import Gptq
from qvggt.methods.qvggt import Qvggt, QvggtPlus
from qvggt.methods.smoothquant import QuaRot, SmoothQuant
from qvggt.types import QvggtError

ENTRY_POINTS = "qvggt.methods"
"""Group in which a package names its methods: ``my-method = "my_package:MyMethod"``."""

RTN = "rtn"
"""Rounds to nearest without calibration, straight from file to file."""

METHODS: Mapping[str, type[Method]] = MappingProxyType(
    {
        "awq": Awq,
        "gptq": Gptq,
        "smoothquant": SmoothQuant,
        "quarot": QuaRot,
        "qvggt": Qvggt,
        "qvggt+": QvggtPlus,
    }
)
"""Calibrated methods of this package."""


def method_names() -> tuple[str, ...]:
    """Return the name of every method that can be asked for, ours first."""
    others = sorted({entry.name for entry in entry_points(group=ENTRY_POINTS)} - {RTN, *METHODS})
    return (RTN, *METHODS, *others)


def parse_variant(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the method and the stages left out that a text such as ``qvggt-compensate-task`` names.

    >>> parse_variant("qvggt-compensate-task"), parse_variant("gptq")
    (('qvggt', ('compensate', 'task')), ('gptq', ()))

    Raises:
        QvggtError: there is no such method, or it has no such stage.
    """
    parts = text.split("-")
    for end in range(len(parts), 0, -1):
        name, without = "-".join(parts[:end]), tuple(parts[end:])
        if name not in method_names():
            continue
        stages = () if name == RTN else find_method(name).stages
        unknown = [stage for stage in without if stage not in stages]
        if unknown:
            raise QvggtError(
                f"the method {name} has no stage {unknown[0]!r} to leave out: it has {list(stages) or 'none'}"
            )
        return name, without
    raise QvggtError(f"there is no method {text!r}: choose one of {', '.join(method_names())}")


def find_method(name: str) -> type[Method]:
    """Return a calibrated method.

    Raises:
        QvggtError: there is none of that name, or the package that announces it cannot be imported.
    """
    if name in METHODS:
        return METHODS[name]
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            try:
                found = entry.load()
            except Exception as error:
                raise QvggtError(f"the method {name!r} of {entry.value} cannot be loaded: {error}") from error
            if not (isinstance(found, type) and issubclass(found, Method)):
                raise QvggtError(f"the method {name!r} of {entry.value} is no subclass of qvggt's Method")
            return found
    raise QvggtError(f"there is no method {name!r}: choose one of {', '.join(method_names())}")
