"""Quantization methods, one file each; and everything that a method of another package needs, imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qvggt.calibration.run import QuantizationResult, UnitContext
    from qvggt.calibration.statistics import pooled
    from qvggt.calibration.unit_store import UnitResult
    from qvggt.methods.base import Method, MethodContext, SchemeChoice
    from qvggt.quant.affine import Grid, QuantizedTensor, dequantize, fit_grid, quantize
    from qvggt.quant.scheme import Scheme

_HOMES = {
    "qvggt.methods.base": ("Method", "MethodContext", "SchemeChoice"),
    "qvggt.calibration.run": ("QuantizationResult", "UnitContext"),
    "qvggt.calibration.statistics": ("pooled",),
    "qvggt.calibration.unit_store": ("UnitResult",),
    "qvggt.quant.affine": ("Grid", "QuantizedTensor", "dequantize", "fit_grid", "quantize"),
    "qvggt.quant.scheme": ("Scheme",),
}

__all__ = [
    "Grid",
    "Method",
    "MethodContext",
    "QuantizationResult",
    "QuantizedTensor",
    "Scheme",
    "SchemeChoice",
    "UnitContext",
    "UnitResult",
    "dequantize",
    "fit_grid",
    "pooled",
    "quantize",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'qvggt.methods' has no attribute {name!r}")
