"""Every option that a user may set, with its default and its choices: frozen dataclasses, without torch.

The public verbs and the command line read their defaults from here, so that they cannot disagree.
"""

from qvggt.options.choices import (
    ALL_HEADS,
    COMPARED_METHODS,
    DATASET,
    DENSE_FRAMES,
    HEADS_FOR,
    METHOD,
    SENSITIVITY_BITS,
    TOKEN_CLASSES,
    Compute,
    Engine,
    GlobalAttention,
    Granularity,
    Head,
    ImageMode,
    PointsFrom,
    Rounding,
    Supervision,
    TokenClass,
    Unit,
    check_heads,
    parse_token_classes,
)
from qvggt.options.evaluation import BenchOptions, RunOptions, Selection
from qvggt.options.export import FORMAT_POINTS, DepthFiles, ExportFormat, FormatOptions, Resolution
from qvggt.options.inference import ExportOptions, ImageOptions, InferenceOptions, LoadOptions, WindowOptions
from qvggt.options.known import KnownCameras, KnownDistance, Place, ScaleOptions
from qvggt.options.quantization import (
    SENSITIVITY_CALIBRATION,
    CalibrationOptions,
    CompareOptions,
    QuantizeOptions,
    SensitivityOptions,
    sensitivity_schemes,
)
from qvggt.options.viewer import ViewOptions

__all__ = [
    "ALL_HEADS",
    "COMPARED_METHODS",
    "DATASET",
    "DENSE_FRAMES",
    "FORMAT_POINTS",
    "HEADS_FOR",
    "METHOD",
    "SENSITIVITY_BITS",
    "SENSITIVITY_CALIBRATION",
    "TOKEN_CLASSES",
    "BenchOptions",
    "CalibrationOptions",
    "CompareOptions",
    "Compute",
    "DepthFiles",
    "Engine",
    "ExportFormat",
    "ExportOptions",
    "FormatOptions",
    "GlobalAttention",
    "Granularity",
    "Head",
    "ImageMode",
    "ImageOptions",
    "InferenceOptions",
    "KnownCameras",
    "KnownDistance",
    "LoadOptions",
    "Place",
    "PointsFrom",
    "QuantizeOptions",
    "Resolution",
    "Rounding",
    "RunOptions",
    "ScaleOptions",
    "Selection",
    "SensitivityOptions",
    "Supervision",
    "TokenClass",
    "Unit",
    "ViewOptions",
    "WindowOptions",
    "check_heads",
    "parse_token_classes",
    "sensitivity_schemes",
]
