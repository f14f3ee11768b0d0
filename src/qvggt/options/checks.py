"""Checks of the types of arguments: a wrong one is the user's to correct, so it is a QvggtError that names it."""

from __future__ import annotations

import collections.abc
import numbers
import os
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from qvggt.types import QvggtError

_LONGEST = 60
_WORDS = {
    int: "a whole number", float: "a number", bool: "True or False", str: "text", Path: "a path", NoneType: "None",
    Mapping: "a mapping", collections.abc.Callable: "a function",
}  # fmt: skip
_KINDS: dict[Any, Any] = {
    int: numbers.Integral, float: numbers.Real, bool: (bool, np.bool_), Path: os.PathLike, Mapping: Mapping
}  # fmt: skip


def check_fields(options: Any) -> None:
    """Raise QvggtError unless every field of a dataclass has a value of its annotated type."""
    hints = _hints(type(options))
    for field in fields(options):
        _check(field.name, getattr(options, field.name), hints[field.name])


def check_arguments(function: object, arguments: Mapping[str, Any]) -> None:
    """Raise QvggtError unless arguments, by name, have the types that a function's annotations name.

    >>> check_arguments(check_arguments, {"function": None, "arguments": 3})
    Traceback (most recent call last):
    qvggt.types.QvggtError: arguments must be a mapping, got 3
    """
    hints = _hints(function)
    for name, value in arguments.items():
        _check(name, value, hints[name])


@lru_cache(maxsize=256)
def _hints(owner: Any) -> dict[str, Any]:
    return get_type_hints(owner)


def _check(name: str, value: object, hint: Any) -> None:
    if not _fits(value, hint):
        shown = repr(value)
        shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
        raise QvggtError(f"{name} must be {_described(hint)}, got {shown}")
    if Path in get_args(hint) and isinstance(value, str | Path) and "\0" in str(value):
        raise QvggtError(f"{name} must be a path, got {str(value)!r}, which has a NUL character")


def _fits(value: object, hint: Any) -> bool:
    """Return whether a value has a type; choices of a Literal and ranges are not checked here, but that it is text."""
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin is Any or isinstance(origin, TypeVar) or origin is object:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str)
    if origin is collections.abc.Callable:
        return callable(value)
    if origin in (int, float) and isinstance(value, bool | np.bool_):
        return False
    if origin is tuple or (isinstance(origin, type) and issubclass(origin, collections.abc.Collection) and not (
        origin is str or issubclass(origin, Mapping)
    )):  # fmt: skip
        return _fits_all(value, parts)
    return isinstance(value, _KINDS.get(origin, origin))


def _fits_all(value: object, parts: tuple[Any, ...]) -> bool:
    """Return whether a value is a collection of values of a type, or of one value of each type."""
    if isinstance(value, str | bytes | Mapping | np.ndarray) or not isinstance(value, collections.abc.Collection):
        return False
    if (len(parts) == 2 and parts[1] is Ellipsis) or len(parts) == 1:
        return all(_fits(each, parts[0]) for each in value)
    return len(value) == len(parts) and all(_fits(each, part) for each, part in zip(value, parts, strict=True))


def _described(hint: Any) -> str:
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_described(part) for part in parts))
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if origin in _WORDS:
        return _WORDS[origin]
    if parts:
        return f"a list ({_described(parts[0])} each)"
    return origin.__name__
