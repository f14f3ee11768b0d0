"""The scheme of a layer: integer or floating-point weights, and rounding or rotation of its input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from qvggt.types import QvggtError

FloatType = Literal["float32", "float16", "bfloat16"]
ScaleRule = Literal["absmax", "mse"]
LayerKind = Literal["linear", "conv2d"]

MIN_BITS, MAX_BITS = 2, 8
MIN_ACTIVATION_BITS = 4
PER_CHANNEL = -1
"""The group size that gives every output channel a single scale."""


@dataclass(frozen=True)
class Scheme:
    """Uniform integer weights with one scale per group of input channels.

    Attributes:
        bits: width of a code, 2 to 8.
        group_size: number of input channels that share a scale, or -1 for one scale per output channel.
        symmetric: a code represents Δ·code; otherwise Δ·(code - zero point) with a zero point per group.
        scale_rule: "absmax" covers the group's largest weight; "mse" clips where the squared error is least.
        activation_bits: width of the codes of a linear layer's input, 4 to 8, symmetric with one scale per token
            (``qvggt.quant.activations``); None keeps the input in floating point.
        rotation: whether a linear layer's input is rotated first (``qvggt.quant.hadamard``); the codes are those of
            the weight times the same rotation.

    Raises:
        QvggtError: a field is out of range.
    """

    bits: int = 4
    group_size: int = 128
    symmetric: bool = True
    scale_rule: ScaleRule = "absmax"
    activation_bits: int | None = None
    rotation: bool = False

    def __post_init__(self) -> None:
        if not _is_whole(self.bits) or not MIN_BITS <= self.bits <= MAX_BITS:
            raise QvggtError(
                f"bits must be a whole number from {MIN_BITS} to {MAX_BITS}, got {self.bits!r} (--bits, --conv-bits)"
            )
        if not _is_whole(self.group_size) or (self.group_size < 1 and self.group_size != PER_CHANNEL):
            raise QvggtError(
                f"group size must be a positive whole number, or -1 for one scale per channel, got {self.group_size!r} "
                "(--group-size)"
            )
        if not isinstance(self.symmetric, bool):
            raise QvggtError(f"symmetric must be true or false, got {self.symmetric!r}")
        if self.scale_rule not in get_args(ScaleRule):
            raise QvggtError(f"scale rule must be one of {', '.join(get_args(ScaleRule))}, got {self.scale_rule!r}")
        if self.activation_bits is not None and (
            not _is_whole(self.activation_bits) or not MIN_ACTIVATION_BITS <= self.activation_bits <= MAX_BITS
        ):
            raise QvggtError(
                f"activation bits must be a whole number from {MIN_ACTIVATION_BITS} to {MAX_BITS}, or none, "
                f"got {self.activation_bits!r} (--activation-bits)"
            )
        if not isinstance(self.rotation, bool):
            raise QvggtError(f"rotation must be true or false, got {self.rotation!r}")

    @property
    def weights_only(self) -> bool:
        """Whether the layer's input is not changed."""
        return self.activation_bits is None and not self.rotation

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code: -2^(bits-1) and 2^(bits-1) - 1."""
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1

    def for_width(self, width: int) -> Scheme:
        """Return this scheme with a group size that divides ``width`` input channels, and a rotation only if it is one.

        A group size that does not divide the width becomes the width's largest divisor below it, if that is at least
        half of it, and otherwise one scale per channel: all groups are full, so that the layout has no special cases.
        Rotation of an odd width is the identity and is dropped. Applying this twice changes nothing more.

        >>> [Scheme(group_size=128).for_width(width).group_size for width in (1024, 588, 128, 9, 1031)]
        [128, 98, -1, -1, -1]
        """
        group, rotation = self.group_size, self.rotation and width % 2 == 0
        if group == PER_CHANNEL or group >= width:
            return replace(self, group_size=PER_CHANNEL, rotation=rotation)
        if width % group:
            group = max(divisor for divisor in range(1, group) if width % divisor == 0)
            if 2 * group < self.group_size:
                group = PER_CHANNEL
        return replace(self, group_size=group, rotation=rotation)

    def groups(self, width: int) -> int:
        """Return the number of groups of ``width`` input channels."""
        size = self.for_width(width).group_size
        return 1 if size == PER_CHANNEL else width // size

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values; those of the input only if they are set."""
        values = asdict(self)
        if self.activation_bits is None:
            del values["activation_bits"]
        if not self.rotation:
            del values["rotation"]
        return values


@dataclass(frozen=True)
class FloatScheme:
    """Weights in a floating-point type.

    Raises:
        QvggtError: the type is none of float32, float16, bfloat16.
    """

    dtype: FloatType = "float16"

    def __post_init__(self) -> None:
        if self.dtype not in get_args(FloatType):
            raise QvggtError(f"float type must be one of {', '.join(get_args(FloatType))}, got {self.dtype!r}")

    @property
    def bits(self) -> int:
        """Width of a weight."""
        return 32 if self.dtype == "float32" else 16

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


LayerScheme = Scheme | FloatScheme


def scheme_from_json(values: Mapping[str, Any]) -> LayerScheme:
    """Rebuild a scheme from its ``to_json``.

    Raises:
        QvggtError: the mapping is not a scheme.
    """
    kind = FloatScheme if "dtype" in values else Scheme
    try:
        return kind(**values)
    except TypeError as error:
        raise QvggtError(f"{dict(values)!r} is not a quantization scheme: {error}") from error


@dataclass(frozen=True)
class LayerShape:
    """Kind and size of a quantizable layer.

    Attributes:
        kind: "linear" or "conv2d".
        shape: the weight's shape: [out, in], or [out, in / groups, kernel height, kernel width].
    """

    kind: LayerKind
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Output channels."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Inputs of one output channel, including the positions of a convolution's kernel."""
        return math.prod(self.shape[1:])


def check_kind(kind: LayerKind, scheme: LayerScheme, name: str = "the layer") -> None:
    """Raise QvggtError if a convolution's scheme rounds or rotates its input.

    A row of its matrix runs over channels and kernel positions: a scale per pixel does not factor out of the sum over
    positions, and a rotation of the row is not a rotation of the input's channels.
    """
    if kind == "conv2d" and isinstance(scheme, Scheme) and not scheme.weights_only:
        raise QvggtError(
            f"{name} is a convolution, whose input cannot be rounded or rotated: "
            "give it a scheme without activation bits and rotation"
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
