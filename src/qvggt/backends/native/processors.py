"""Sources, functions and compiler flags of the native library, by processor."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True, eq=False)
class Processor:
    """What is built for one kind of processor.

    Attributes:
        sources: C files.
        functions: exported functions that are called.
        special: those that exist only if the compiler was given the flags of some CPU feature.
        flags: compiler flags.
        features: additional flags by CPU feature (torch's names); those of the first feature present are used.
    """

    sources: Sequence[str]
    functions: Sequence[str]
    flags: Sequence[str]
    special: Sequence[str] = ()
    features: Mapping[str, Sequence[str]] = field(default_factory=dict)


_PRODUCTS = ("qvggt_multiply", "qvggt_multiply_few", "qvggt_round", "qvggt_expand")
_PAIRS = (
    "qvggt_attend", "qvggt_convolve", "qvggt_convolve_winograd", "qvggt_convolve_winograd_floats", "qvggt_round_map",
    "qvggt_round_kernels", "qvggt_transform_kernels", "qvggt_transform_floats",
)  # fmt: skip

_AVX512 = ("-mavx512f", "-mavx512vnni", "-mavx512vl")
_AVX512_BF16 = (*_AVX512, "-mavx512bw", "-mavx512dq", "-mavx512bf16")

X86 = Processor(
    sources=(
        "products.c",
        "few.c",
        "expand.c",
        "rounding.c",
        "attention.c",
        "convolution.c",
        "winograd.c",
        "halves.c",
        "half_products.c",
        "passes.c",
    ),
    functions=(*_PRODUCTS, *_PAIRS),
    flags=("-mavx2", "-mfma", "-mbmi2", "-mf16c"),
    special=(
        "qvggt_attend_bfloat16",
        "qvggt_rotate_bfloat16",
        "qvggt_multiply_bfloat16",
        "qvggt_gelu_bfloat16",
        "qvggt_add_scaled_bfloat16",
        "qvggt_normalize_bfloat16",
    ),
    features={
        "amx_bf16": (*_AVX512_BF16, "-mamx-tile", "-mamx-bf16"),
        "avx512_bf16": _AVX512_BF16,
        "avx512_vnni": _AVX512,
        "avx_vnni": ("-mavxvnni",),
    },
)
ARM = Processor(
    sources=("products.c", "few.c", "expand.c", "rounding.c"),
    functions=_PRODUCTS,
    flags=(),
    features={"": ("-mcpu=native",)},
)
"""NEON multiplies 16-bit integers no faster than floats, so attention and convolution stay in float."""


def processor() -> Processor | None:
    """Return this machine's entry, or None if it is not supported."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64") and torch.cpu._is_avx2_supported():
        return X86
    return ARM if machine in ("aarch64", "arm64") else None


def features() -> Sequence[str]:
    """Return the features of this CPU that this process may use, by torch's names."""
    found = {name for name, has in _capabilities().items() if has is True}
    tiles = {name for name in found if name.startswith("amx")}
    return sorted(found - tiles if tiles and not _may_use_tiles() else found)


def _may_use_tiles() -> bool:
    """Ask the system for the registers of AMX: Linux allows them to a process that asks."""
    ask = getattr(torch.cpu, "_init_amx", None)
    return bool(ask and ask())


def is_amd() -> bool:
    """Return whether AMD made this CPU."""
    return str(_capabilities().get("cpu_name", "")).startswith("AMD")


def _capabilities() -> Mapping[str, object]:
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
