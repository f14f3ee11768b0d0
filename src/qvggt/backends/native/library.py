"""The native library: compiled once per machine and user, then loaded from the user's cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from qvggt.backends.native.cache import cached, keep
from qvggt.backends.native.processors import Processor, features, processor
from qvggt.types import QvggtError

FOLDER = Path(__file__).parent
_HEADERS = ("bfloat16.h", "convolution.h", "job.h", "neon.h", "pairs.h", "tiles.h", "unpack.h", "vectors.h", "wide.h")
HEADERS = tuple(FOLDER / name for name in _HEADERS)
FLAGS = ("-O3", "-std=gnu11", "-fno-math-errno", "-fPIC", "-shared")
_KEY_CHARACTERS = 16
_SECONDS = 120


class Unavailable(Exception):
    """Raised if the native library cannot be built or loaded; the message says why."""


def unavailable_reason() -> str | None:
    """Return why the native library is unavailable, or None."""
    try:
        library()
    except Unavailable as reason:
        return str(reason)
    return None


def library() -> ctypes.CDLL:
    """Return the native library, compiled now if it is not in the cache.

    Raises:
        Unavailable: there is no compiler, or the CPU is not supported.
    """
    if os.environ.get("QVGGT_NATIVE") == "0":
        raise Unavailable("the native library is switched off (QVGGT_NATIVE=0)")
    kind = processor()  # asked at each call: it costs nothing, and tests take instructions away
    if kind is None:
        raise Unavailable("the native library does not support this CPU (supported: x86 with AVX2, 64-bit ARM)")
    outcome = _outcome(kind)
    if isinstance(outcome, Unavailable):
        raise outcome
    return outcome


@functools.cache
def _outcome(kind: Processor) -> ctypes.CDLL | Unavailable:
    try:
        return _load(_compiled(kind), kind)
    except Unavailable as reason:
        return reason


def has_function(name: str) -> bool:
    """Return whether the native library is there and has a function, which may need special instructions."""
    try:
        return hasattr(library(), name)
    except Unavailable:
        return False


def compiler() -> Sequence[str]:
    """Return the C compiler's command, ``$CC`` if it is set; empty if there is no compiler."""
    named = os.environ.get("CC", "").split()
    calls = [named] if named else [["cc"], ["gcc"], ["clang"]]
    return next(([path, *options] for name, *options in calls if (path := shutil.which(name))), [])


def special_flags(kind: Processor) -> Sequence[str]:
    """Return the compiler flags for this CPU's extensions."""
    there = {"", *features()}
    return next((flags for name, flags in kind.features.items() if name in there), ())


def _compiled(kind: Processor) -> Path:
    """Return the path of the library, compiled now if it is not in the cache."""
    special = special_flags(kind)
    try:
        return _compiled_with(kind, special)
    except Unavailable:  # a compiler older than the CPU
        if not special:
            raise
        return _compiled_with(kind, ())


def command(kind: Processor, special: Sequence[str], target: Path) -> Sequence[str]:
    """Return the compiler's arguments that build the library."""
    return *FLAGS, *kind.flags, *special, "-o", str(target), *(str(FOLDER / name) for name in kind.sources), "-lm"


def _compiled_with(kind: Processor, special: Sequence[str]) -> Path:
    text = b"".join(path.read_bytes() for path in (*(FOLDER / name for name in kind.sources), *HEADERS))
    words = (*FLAGS, *kind.flags, *special, *features())
    key = hashlib.sha256(text + " ".join(words).encode()).hexdigest()[:_KEY_CHARACTERS]
    try:
        return cached(key) or keep(key, _compile(kind, special))
    except QvggtError as error:
        raise Unavailable(f"the native library cannot be kept ({error})") from error


def _compile(kind: Processor, special: Sequence[str]) -> bytes:
    """Return the bytes of the library."""
    found = compiler()
    if not found:
        raise Unavailable("no C compiler found for the native library: install gcc or clang, or set CC")
    try:
        with tempfile.TemporaryDirectory(prefix="qvggt-") as folder:
            target = Path(folder) / "products.so"
            call = [*found, *command(kind, special, target)]
            subprocess.run(call, check=True, capture_output=True, text=True, timeout=_SECONDS)
            return target.read_bytes()
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        raise Unavailable(f"{found[0]} cannot compile the native library ({lines[0]})") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"the native library cannot be compiled ({error})") from error


def _load(path: Path, kind: Processor) -> ctypes.CDLL:
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:
        raise Unavailable(
            f"the native library cannot be loaded ({error}): set XDG_CACHE_HOME to a folder that is not mounted noexec"
        ) from error
    for name in (*kind.functions, *(name for name in kind.special if hasattr(found, name))):
        getattr(found, name).argtypes, getattr(found, name).restype = [ctypes.c_void_p], None
    return found
