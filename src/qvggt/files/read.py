"""Read text and JSON files that may be damaged or hostile: every failure ends in one sentence, within limits."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, NoReturn

from qvggt.files.write import explain
from qvggt.types import PathLike, QvggtError

INTACT = "get an intact copy"
"""What to do about a damaged file, unless the caller knows better."""

_MAX_BYTES = 1 << 32
_FREE_BYTES, _MAX_EXPANSION = 1 << 26, 100  # JSON compresses to about a tenth, a gzip bomb to a thousandth
_MAX_DEPTH = 100
_SHOWN = 120  # characters of another library's message
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TokenError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def reading(path: PathLike, remedy: str = INTACT, what: str = "") -> Iterator[None]:
    """Turn every error that a missing, unreadable or damaged file causes inside the ``with`` into one sentence.

    Args:
        path: the file, for the sentence.
        remedy: how to fix a damaged file.
        what: what the file is, in front of its path, such as ``the camera file``.

    Raises:
        QvggtError: anything that a file's contents or the system can cause was raised inside.
    """
    name = f"{what} {path}".lstrip()
    try:
        yield
    except gzip.BadGzipFile as error:  # an OSError that is no fault of the system
        raise QvggtError(f"{name} is damaged ({_reason(error)}): {remedy}") from error
    except FileNotFoundError as error:
        missing = f"{what} is missing: {path} was looked for" if what else f"there is no file {path}"
        raise QvggtError(f"{missing}; check the path, or {remedy}") from error
    except OSError as error:
        if error.errno is None:  # raised by a decoder, not by the system
            raise QvggtError(f"{name} is damaged ({_reason(error)}): {remedy}") from error
        raise explain(error, name, "read") from error
    except UnicodeDecodeError as error:
        raise QvggtError(f"{name} is damaged (not a text in UTF-8): {remedy}") from error
    except _DAMAGE as error:
        raise QvggtError(f"{name} is damaged ({_reason(error)}): {remedy}") from error


def open_regular(path: PathLike) -> IO[bytes]:
    """Open a file for reading bytes; pipes and devices, which may never end, are refused.

    Raises:
        OSError: the system refuses.
        QvggtError: something else than a regular file is there.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise QvggtError(f"{path} is not a regular file: give the path of one")
    return path.open("rb")


def read_text(path: PathLike, remedy: str = INTACT, what: str = "") -> str:
    """Return the text of a UTF-8 file, decompressed if its suffix is ``.gz`` or ``.jgz``.

    Raises:
        QvggtError: the file is missing, unreadable, not text, or too large: more than 4 GiB, or more than 64 MiB and
            100 times its compressed size.
    """
    with reading(path, remedy, what), open_regular(path) as file:
        size = Path(path).stat().st_size
        if Path(path).suffix not in (".gz", ".jgz"):
            return _limited(file, _MAX_BYTES).decode("utf-8")
        with gzip.open(file) as expanded:
            return _limited(expanded, min(_MAX_BYTES, max(_FREE_BYTES, _MAX_EXPANSION * size))).decode("utf-8")


def read_json(path: PathLike, remedy: str = INTACT, what: str = "", allow_nan: bool = False) -> Any:
    """Return the value of a JSON file, decompressed if its suffix is ``.gz`` or ``.jgz``; see ``parse_json``.

    Raises:
        QvggtError: ``read_text`` or ``parse_json`` raises it.
    """
    return parse_json(read_text(path, remedy, what), path, remedy, what, allow_nan=allow_nan)


def parse_json(text: str | bytes, path: PathLike, remedy: str = INTACT, what: str = "", allow_nan: bool = False) -> Any:
    """Return the value of JSON text.

    Args:
        text: the JSON, bytes in UTF-8.
        path: where it is from, for the sentence.
        remedy: how to fix a damaged file.
        what: what the file is, for the sentence.
        allow_nan: whether NaN and infinity, which standard JSON does not have, are allowed.

    Raises:
        QvggtError: the text is no JSON, or nested deeper than 100 levels.
    """
    with reading(path, remedy, what):
        if not text.strip():
            raise ValueError("it is empty")
        value = json.loads(text, parse_constant=None if allow_nan else _refuse_constant)
        _check_depth(value)
        return value


def read_json_object(path: PathLike, remedy: str = INTACT, what: str = "") -> dict[str, Any]:
    """Return the value of a JSON file that has to be an object; see ``read_json``."""
    value = read_json(path, remedy, what)
    with reading(path, remedy, what):
        if not isinstance(value, dict):
            raise ValueError(f"expected a JSON object, got {type(value).__name__}")
        return value


def read_json_lines(path: PathLike, remedy: str = INTACT, what: str = "") -> list[dict[str, Any]]:
    """Return the objects of a file with one JSON object a line; see ``read_json``."""
    lines = read_text(path, remedy, what).splitlines()
    values = [parse_json(line, path, remedy, what, allow_nan=True) for line in lines if line.strip()]
    with reading(path, remedy, what):
        if not all(isinstance(value, dict) for value in values):
            raise ValueError("expected a JSON object on each line")
        return values


def _limited(file: IO[bytes] | gzip.GzipFile, limit: int) -> bytes:
    content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it expands to more than {limit} bytes")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        nested = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list)))
        level = [child for children in nested for child in children if isinstance(child, (dict, list))]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")


def _reason(error: BaseException) -> str:
    """Return the first line of an error's message, shortened, and its type where the message alone says little."""
    text = (str(error).strip().splitlines() or [""])[0][:_SHOWN]
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"{text} is missing"
    return text or type(error).__name__
