"""What is compiled for which processor."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True, eq=False)
class Processor:
    """A kind of processor.

    Attributes:
        sources: what is compiled.
        jobs: what of it is called.
        flags: what a compiler has to be told.
        features: what it is told beyond that of a CPU with such a feature, by torch's names; the first that is there.
    """

    sources: Sequence[str]
    jobs: Sequence[str]
    flags: Sequence[str]
    features: Mapping[str, Sequence[str]] = field(default_factory=dict)


_PRODUCTS = ("qvggt_multiply", "qvggt_round", "qvggt_expand")
_PAIRS = (
    "qvggt_attend", "qvggt_convolve", "qvggt_convolve_squares", "qvggt_convolve_floats", "qvggt_round_map",
    "qvggt_round_kernels", "qvggt_transform_kernels", "qvggt_transform_floats",
)  # fmt: skip

X86 = Processor(
    sources=("products.c", "rounding.c", "attention.c", "convolution.c", "winograd.c"),
    jobs=(*_PRODUCTS, *_PAIRS),
    flags=("-mavx2", "-mfma", "-mbmi2", "-mf16c"),
    features={"avx512_vnni": ("-mavx512vnni", "-mavx512vl"), "avx_vnni": ("-mavxvnni",)},
)
ARM = Processor(sources=("products.c", "rounding.c"), jobs=_PRODUCTS, flags=(), features={"": ("-mcpu=native",)})
"""NEON multiplies 16-bit numbers no faster than floats, so attention and convolutions stay in float."""


def processor() -> Processor | None:
    """Return this machine's kind, or None if nothing is compiled for it."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64") and torch.cpu._is_avx2_supported():  # pyright: ignore[reportAttributeAccessIssue]
        return X86
    return ARM if machine in ("aarch64", "arm64") else None


def features() -> Sequence[str]:
    """Return what this machine's CPU has, by torch's names."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return sorted(name for name, has in found.items() if has is True)
