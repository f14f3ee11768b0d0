"""The methods by name: built-in ones, and those that other packages register."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from qvggt.methods.awq import Awq
from qvggt.methods.base import Method
from qvggt.methods.gptq import Gptq
from qvggt.methods.qvggt import Qvggt, QvggtPlus
from qvggt.methods.rtn import Rtn
from qvggt.methods.smoothquant import QuaRot, SmoothQuant
from qvggt.options.messages import did_you_mean
from qvggt.types import QvggtError

ENTRY_POINTS = "qvggt.methods"
"""Entry point group under which a package registers its methods: ``my-method = "my_package:MyMethod"``."""

METHODS: Mapping[str, type[Method]] = MappingProxyType(
    {
        "rtn": Rtn,
        "awq": Awq,
        "gptq": Gptq,
        "smoothquant": SmoothQuant,
        "quarot": QuaRot,
        "qvggt": Qvggt,
        "qvggt+": QvggtPlus,
    }
)
"""Methods of this package."""


def method_names() -> tuple[str, ...]:
    """Return the names of all methods, built-in ones first."""
    return (*METHODS, *sorted({entry.name for entry in entry_points(group=ENTRY_POINTS)} - set(METHODS)))


def parse_variant(text: str) -> tuple[str, tuple[str, ...]]:
    """Split a name such as ``qvggt-compensate-task`` into the method and the stages to leave out.

    >>> parse_variant("qvggt-compensate-task"), parse_variant("gptq")
    (('qvggt', ('compensate', 'task')), ('gptq', ()))

    Raises:
        QvggtError: the method does not exist, or does not have such a stage.
    """
    names, parts = method_names(), text.split("-")
    for end in range(len(parts), 0, -1):
        name, without = "-".join(parts[:end]), tuple(parts[end:])
        if name not in names:
            continue
        stages = find_method(name).stages
        unknown = [stage for stage in without if stage not in stages]
        if unknown:
            raise QvggtError(
                f"the method {name} has no stage {unknown[0]!r} to leave out: it has {', '.join(stages) or 'none'}"
            )
        return name, without
    raise QvggtError(_unknown(text))


def find_method(name: str) -> type[Method]:
    """Return the method of this name.

    Raises:
        QvggtError: it does not exist, or the package that registers it cannot be imported.
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
                raise QvggtError(f"the method {name!r} of {entry.value} is not a subclass of qvggt.methods.Method")
            return found
    raise QvggtError(_unknown(name))


def _unknown(name: str) -> str:
    names = method_names()
    return f"there is no method {name!r}: choose one of {', '.join(names)}{did_you_mean(name, names)}"
