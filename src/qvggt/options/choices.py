"""Named choices, and defaults that several options share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, get_args

from qvggt.options.messages import did_you_mean
from qvggt.types import QvggtError

Head = Literal["camera", "depth", "point"]
"""Outputs of the model: cameras, depth maps, point maps."""

PointsFrom = Literal["depth", "head"]
"""Source of world points: depth maps and cameras, or the point head."""

Compute = Literal["auto", "float32", "bfloat16", "float16", "int8", "float"]
"""Arithmetic of products. "auto" is the fastest that is near-lossless on the machine at hand. "float32" dequantizes
packed weights, layer by layer, to the dtype of the activations; "float" is its older name. "bfloat16" and "float16"
dequantize to that type and multiply in it, with float32 sums. "int8" multiplies integers: activations of linear layers
are quantized to 8 bits per token; backends with integer convolution and attention use at least 10 bits there."""

REFERENCE_COMPUTE: Compute = "float32"
"""Arithmetic of the float model that others are compared with, whatever theirs is."""

HalfType = Literal["bfloat16", "float16"]
"""Floating-point types of 16 bits."""

ImageMode = Literal["crop", "pad"]
"""How images get the model's shape: tall ones are cropped, or all are padded to a square."""

ResultFile = Literal["prediction.npz", "points.ply", "scene.glb", "cameras.json", "depth", "overview.png"]
"""Files of a reconstruction, and the folder of its depth images; ``result.json`` is always written."""

Unit = Literal["model", "meter"]
"""Unit of lengths: the model's, whose scale is unknown, or meters."""

PictureFormat = Literal["jpeg", "png"]
"""File format of the frames of a video."""

Supervision = Literal["truth", "teacher"]
"""Reference of the calibration loss: ground truth, or the float model."""

Granularity = Literal["unit", "part", "layer"]
"""What sensitivity quantizes at a time: a block or head, layers of one kind in it, or a single layer."""

Rounding = Literal["nearest", "second-order"]
"""How sensitivity rounds linear layers: to nearest, or by second order as gptq and qvggt+ do."""

SensitivityBy = Literal["auto", "gradient", "measurement"]
"""How sensitivities are found: measured by running the model with one part quantized after the other, estimated from
gradients by one forward and one backward pass, or estimated where gradients can judge and measured elsewhere."""

Engine = Literal["local", "ray"]
"""Where an evaluation runs: in this process, or on a Ray cluster."""

TokenClass = Literal["camera", "register", "patch"]
"""The class token of the patch embedding counts as a register; every token of the camera head is a camera token."""

ALL_HEADS: tuple[Head, ...] = get_args(Head)
RESULT_FILES: tuple[ResultFile, ...] = get_args(ResultFile)
TOKEN_CLASSES: tuple[TokenClass, ...] = get_args(TokenClass)
HEADS_FOR: dict[PointsFrom, tuple[Head, ...]] = {"depth": ("camera", "depth"), "head": ALL_HEADS}
"""Heads that a reconstruction runs if none are named, by the source of its points."""

DENSE_FRAMES = 8
"""Most frames that the dense heads process at a time; more is no faster and takes more memory."""

DATASET = "rooms"
"""The dataset that is evaluated and calibrated on if none is named; it needs no files."""

METHOD = "rtn"
"""The quantization method if none is named; it needs no calibration."""

COMPARED_METHODS = ("rtn", "awq", "gptq", "smoothquant", "qvggt", "qvggt+")
SENSITIVITY_BITS = (3, 4, 8)


def check_heads(heads: Collection[str]) -> None:
    """Raise QvggtError unless all heads exist."""
    unknown = sorted(set(heads) - set(ALL_HEADS))
    if unknown or isinstance(heads, str):
        what = heads if isinstance(heads, str) else unknown[0]
        nearest = did_you_mean(what, ALL_HEADS)
        raise QvggtError(f"unknown heads {what!r}: expected a list of {', '.join(ALL_HEADS)}{nearest}")


def parse_token_classes(text: str) -> tuple[TokenClass, ...]:
    """Return the token classes that a setting names: ``all``, or classes joined by ``+`` (``camera+patch``).

    Raises:
        QvggtError: a class does not exist.
    """
    names = TOKEN_CLASSES if text == "all" else text.split("+")
    unknown = [name for name in names if name not in TOKEN_CLASSES]
    if unknown:
        raise QvggtError(
            f"unknown token class {unknown[0]!r}: expected all, or some of {', '.join(TOKEN_CLASSES)} joined by +"
            f"{did_you_mean(unknown[0], ('all', *TOKEN_CLASSES))}"
        )
    return tuple(name for name in TOKEN_CLASSES if name in names)


def check_choice(what: str, value: object, choices: Any) -> None:
    """Raise QvggtError unless a value is one of a Literal's."""
    known = get_args(choices)
    if value not in known:
        raise QvggtError(f"unknown {what} {value!r}: expected {' or '.join(known)}{did_you_mean(value, known)}")
