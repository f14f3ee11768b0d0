"""The compiled products: made once per machine and kept in the user's cache."""

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

import torch

from qvggt.files import user_cache

FOLDER = Path(__file__).parent
SOURCES = tuple(FOLDER / name for name in ("products.c", "attention.c", "convolution.c"))
HEADERS = tuple(FOLDER / name for name in ("job.h", "pairs.h", "vectors.h"))
FLAGS = ("-O3", "-std=gnu11", "-mavx2", "-mfma", "-mbmi2", "-mf16c", "-fno-math-errno", "-fPIC", "-shared")
FEATURES = {"avx512_vnni": ("-mavx512vnni", "-mavx512vl"), "avx_vnni": ("-mavxvnni",)}
"""Of a CPU that add products faster, by torch's names, and what the compiler needs to be told to use them."""
_JOBS = (
    "qvggt_multiply", "qvggt_round", "qvggt_expand", "qvggt_attend", "qvggt_convolve", "qvggt_round_map",
    "qvggt_round_kernels",
)  # fmt: skip
_KEY_CHARACTERS = 16
_SECONDS = 120


class Unavailable(Exception):
    """The library cannot be had on this machine; the words say why."""


def unavailable_reason() -> str | None:
    """Return why there are no compiled products here, or None."""
    try:
        library()
    except Unavailable as reason:
        return str(reason)
    return None


@functools.cache
def _outcome() -> ctypes.CDLL | Unavailable:
    try:
        return _load(_compiled())
    except Unavailable as reason:
        return reason


def library() -> ctypes.CDLL:
    """Return the compiled products.

    Raises:
        Unavailable: there is no compiler, or the CPU is another.
    """
    if os.environ.get("QVGGT_NATIVE") == "0":
        raise Unavailable("compiled products are switched off (QVGGT_NATIVE=0)")
    if not torch.cpu._is_avx2_supported():  # pyright: ignore[reportAttributeAccessIssue]
        raise Unavailable("there are no compiled products for this CPU (AVX2 on x86 so far)")
    outcome = _outcome()
    if isinstance(outcome, Unavailable):
        raise outcome
    return outcome


def compiler() -> Sequence[str]:
    """Return the words that call a C compiler: those of ``$CC`` if it is set; none if there is no compiler."""
    named = os.environ.get("CC", "").split()
    calls = [named] if named else [["cc"], ["gcc"], ["clang"]]
    return next(([path, *options] for name, *options in calls if (path := shutil.which(name))), [])


def cpu_flags() -> Sequence[str]:
    """Return what a compiler is told of this CPU beyond AVX2."""
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return next((flags for name, flags in FEATURES.items() if features.get(name)), ())


def _compiled() -> Path:
    """Return the library's file, compiled now if it is not in the cache."""
    special = cpu_flags()
    try:
        return _compiled_with((*FLAGS, *special))
    except Unavailable:  # a compiler older than the CPU
        if not special:
            raise
        return _compiled_with(FLAGS)


def _compiled_with(flags: Sequence[str]) -> Path:
    text = b"".join(path.read_bytes() for path in (*SOURCES, *HEADERS))
    key = hashlib.sha256(text + " ".join(flags).encode()).hexdigest()[:_KEY_CHARACTERS]
    target = user_cache() / "native" / f"products-{key}.so"
    if target.is_file():
        return target
    found = compiler()
    if not found:
        raise Unavailable("there is no C compiler for fast products: install gcc or clang, or set CC")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            command = [*found, *flags, "-o", str(made), *map(str, SOURCES), "-lm"]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
            os.replace(made, target)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        raise Unavailable(f"{found[0]} cannot compile fast products ({lines[0]})") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"fast products cannot be compiled ({error})") from error
    return target


def _load(path: Path) -> ctypes.CDLL:
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:
        raise Unavailable(f"compiled products cannot be loaded ({error}): remove {path}") from error
    for name in _JOBS:
        getattr(found, name).argtypes, getattr(found, name).restype = [ctypes.c_void_p], None
    return found
