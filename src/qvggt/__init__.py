"""VGGT in 4 bits per weight with its geometry intact.

The public verbs and types are imported when they are first used, so that ``import qvggt`` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from qvggt.version import __version__

if TYPE_CHECKING:
    from qvggt.api.compare import compare
    from qvggt.api.doctor import DoctorReport, doctor
    from qvggt.api.evaluate import evaluate
    from qvggt.api.export import export
    from qvggt.api.export_model import OnnxReport, export_model
    from qvggt.api.fidelity import FidelityReport, fidelity
    from qvggt.api.known_cameras import with_known_cameras
    from qvggt.api.metric_scale import to_meters
    from qvggt.api.progress import progress_bar
    from qvggt.api.push import PushReport, push
    from qvggt.api.quantize import QuantizeReport, quantize, quantize_to
    from qvggt.api.reconstruct import load, reconstruct, save
    from qvggt.api.reconstruct_scenes import ScenesReport, reconstruct_scenes
    from qvggt.api.refine import refine
    from qvggt.api.sensitivity import attention_sensitivity, sensitivity
    from qvggt.calibration.sensitivity import SensitivityReport
    from qvggt.eval.comparison import ComparisonReport
    from qvggt.eval.report import Evaluation
    from qvggt.export.formats import ExportReport
    from qvggt.export.npz import load_prediction, save_prediction
    from qvggt.geometry import Similarity
    from qvggt.options import (
        AttentionOptions,
        CalibrationOptions,
        CompareOptions,
        FormatOptions,
        KnownCameras,
        LoadOptions,
        OnnxOptions,
        QuantizeOptions,
        RefineOptions,
        RunOptions,
        ScaleOptions,
        SceneOptions,
        Selection,
        SensitivityOptions,
        WindowOptions,
        WorkerOptions,
    )
    from qvggt.postprocess.metric_scale import scaled
    from qvggt.postprocess.refine.refinement import Refinement
    from qvggt.postprocess.similarity import align, transformed
    from qvggt.quant.scheme import Scheme
    from qvggt.types import (
        AttentionPlan,
        FrameMap,
        ImageSet,
        OnProgress,
        PointCloud,
        Prediction,
        QvggtError,
        Scene,
    )

_HOMES = {
    "qvggt.api.reconstruct": ("load", "reconstruct", "save"),
    "qvggt.api.reconstruct_scenes": ("ScenesReport", "reconstruct_scenes"),
    "qvggt.export.formats": ("ExportReport",),
    "qvggt.export.npz": ("load_prediction", "save_prediction"),
    "qvggt.api.progress": ("progress_bar",),
    "qvggt.api.known_cameras": ("with_known_cameras",),
    "qvggt.api.metric_scale": ("to_meters",),
    "qvggt.geometry": ("Similarity",),
    "qvggt.postprocess.similarity": ("align", "transformed"),
    "qvggt.postprocess.metric_scale": ("scaled",),
    "qvggt.api.compare": ("compare",),
    "qvggt.api.doctor": ("DoctorReport", "doctor"),
    "qvggt.eval.comparison": ("ComparisonReport",),
    "qvggt.eval.report": ("Evaluation",),
    "qvggt.api.evaluate": ("evaluate",),
    "qvggt.options": (
        "AttentionOptions",
        "CalibrationOptions",
        "CompareOptions",
        "FormatOptions",
        "QuantizeOptions",
        "RefineOptions",
        "RunOptions",
        "KnownCameras",
        "OnnxOptions",
        "LoadOptions",
        "ScaleOptions",
        "SceneOptions",
        "Selection",
        "SensitivityOptions",
        "WindowOptions",
        "WorkerOptions",
    ),
    "qvggt.api.export_model": ("OnnxReport", "export_model"),
    "qvggt.api.fidelity": ("FidelityReport", "fidelity"),
    "qvggt.api.refine": ("refine",),
    "qvggt.postprocess.refine.refinement": ("Refinement",),
    "qvggt.api.sensitivity": ("attention_sensitivity", "sensitivity"),
    "qvggt.quant.scheme": ("Scheme",),
    "qvggt.api.push": ("PushReport", "push"),
    "qvggt.api.quantize": ("QuantizeReport", "quantize", "quantize_to"),
    "qvggt.calibration.sensitivity": ("SensitivityReport",),
    "qvggt.types": (
        "AttentionPlan",
        "FrameMap",
        "ImageSet",
        "OnProgress",
        "PointCloud",
        "Prediction",
        "QvggtError",
        "Scene",
    ),
}

__all__ = [
    "AttentionOptions",
    "AttentionPlan",
    "CalibrationOptions",
    "CompareOptions",
    "ComparisonReport",
    "DoctorReport",
    "Evaluation",
    "ExportReport",
    "FidelityReport",
    "FormatOptions",
    "FrameMap",
    "ImageSet",
    "KnownCameras",
    "LoadOptions",
    "OnProgress",
    "OnnxOptions",
    "OnnxReport",
    "PointCloud",
    "Prediction",
    "PushReport",
    "QuantizeOptions",
    "QuantizeReport",
    "QvggtError",
    "RefineOptions",
    "Refinement",
    "RunOptions",
    "ScaleOptions",
    "Scene",
    "SceneOptions",
    "ScenesReport",
    "Scheme",
    "Selection",
    "SensitivityOptions",
    "SensitivityReport",
    "Similarity",
    "WindowOptions",
    "WorkerOptions",
    "__version__",
    "align",
    "attention_sensitivity",
    "compare",
    "doctor",
    "evaluate",
    "export",
    "export_model",
    "fidelity",
    "load",
    "load_prediction",
    "progress_bar",
    "push",
    "quantize",
    "quantize_to",
    "reconstruct",
    "reconstruct_scenes",
    "refine",
    "save",
    "save_prediction",
    "scaled",
    "sensitivity",
    "to_meters",
    "transformed",
    "with_known_cameras",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'qvggt' has no attribute {name!r}")


class _Package(ModuleType):
    """The package; its attribute ``export`` is the verb, although importing the folder ``export/`` sets it too."""

    @property
    def export(self) -> Any:
        return importlib.import_module("qvggt.api.export").export

    @export.setter
    def export(self, module: ModuleType) -> None:
        """Ignore the folder; ``from qvggt.export import ...`` finds it without the attribute."""


sys.modules[__name__].__class__ = _Package
