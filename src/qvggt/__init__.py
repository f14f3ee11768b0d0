"""VGGT in 4 bits per weight with its geometry intact.

The public verbs and types are imported when they are first used, so that ``import qvggt`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qvggt.version import __version__

if TYPE_CHECKING:
    from qvggt.api import QuantizeReport, load, quantize, quantize_to, reconstruct, save
    from qvggt.artifacts import load_prediction, save_prediction
    from qvggt.eval.plan import Selection
    from qvggt.eval.report import Evaluation
    from qvggt.eval.work import RunOptions
    from qvggt.evaluation import evaluate
    from qvggt.methods.rtn import RtnOptions
    from qvggt.quant.scheme import Scheme
    from qvggt.types import FrameMap, ImageSet, Prediction, QvggtError, Scene

_HOMES = {
    "qvggt.api": ("QuantizeReport", "load", "quantize", "quantize_to", "reconstruct", "save"),
    "qvggt.artifacts": ("load_prediction", "save_prediction"),
    "qvggt.eval.plan": ("Selection",),
    "qvggt.eval.report": ("Evaluation",),
    "qvggt.eval.work": ("RunOptions",),
    "qvggt.evaluation": ("evaluate",),
    "qvggt.methods.rtn": ("RtnOptions",),
    "qvggt.quant.scheme": ("Scheme",),
    "qvggt.types": ("FrameMap", "ImageSet", "Prediction", "QvggtError", "Scene"),
}

__all__ = [
    "Evaluation",
    "FrameMap",
    "ImageSet",
    "Prediction",
    "QuantizeReport",
    "QvggtError",
    "RtnOptions",
    "RunOptions",
    "Scene",
    "Scheme",
    "Selection",
    "__version__",
    "evaluate",
    "load",
    "load_prediction",
    "quantize",
    "quantize_to",
    "reconstruct",
    "save",
    "save_prediction",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'qvggt' has no attribute {name!r}")
