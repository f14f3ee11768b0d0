"""SmoothQuant and QuaRot: weights and activations in integers.

Xiao et al., "SmoothQuant" (ICML 2023, arXiv 2211.10438): the output of a LayerNorm is divided by
max|x|^α / max|w|^(1-α) per channel, α = 1/2, and the weights after it are multiplied by the same. QuaRot (Ashkboos et
al., arXiv 2404.00456; used on VGGT by QuantVGGT) multiplies every layer's input by a Hadamard matrix, which spreads
outlier channels over all channels. Activations are rounded per token at inference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from qvggt.calibration.run import UnitContext
from qvggt.calibration.statistics import pooled
from qvggt.calibration.unit_store import UnitResult
from qvggt.methods.base import Method, MethodContext, SchemeChoice
from qvggt.model.producers import absorb, scale_paths
from qvggt.quant.affine import quantize
from qvggt.quant.hadamard import rotate_weight
from qvggt.quant.scheme import Scheme
from qvggt.types import LayerId

ALPHA = 0.5
"""Migration strength: how much of the range of activations is moved into the weights."""

SMALLEST = 1e-5
"""Lower bound of ranges and scales, which avoids division by zero."""


class SmoothQuant(Method):
    """Smoothed activations, rounded to 8 bits per token."""

    summary = "smoothed channels, activations in 8 bits"
    propagate = "float"
    rounds_activations = True
    rotation: ClassVar[bool] = False
    activation_bits: ClassVar[int] = 8

    def choose_schemes(self, context: MethodContext) -> SchemeChoice:
        """Give every linear layer the user's scheme with rounded activations, with the user's bits if given."""
        choice = super().choose_schemes(context)
        schemes = {
            layer: replace(
                scheme,
                activation_bits=self.options.activation_bits or self.activation_bits or None,
                rotation=self.rotation,
            )
            if isinstance(scheme, Scheme) and context.shapes[layer].kind == "linear"
            else scheme
            for layer, scheme in choice.schemes.items()
        }
        return SchemeChoice(schemes)

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Smooth the inputs that come from LayerNorms, rotate if the scheme says so, and round to nearest."""
        model, unit = context.model, context.unit
        parameters = {f"{layer}.weight": model.get_parameter(f"{layer}.weight").detach() for layer in context.schemes}
        for path in scale_paths(model.get_submodule(unit.module), unit.module):
            consumer = LayerId(path.consumer)
            if path.values or consumer not in context.schemes:
                continue
            for name in (f"{path.producer}.weight", f"{path.producer}.bias"):
                parameters[name] = model.get_parameter(name).detach()
            largest = pooled(context.statistics[consumer], self.token_classes).largest
            absorb(parameters, path, smoothing_scale(largest, parameters[f"{consumer}.weight"]))
        weights = {}
        for layer, scheme in context.schemes.items():
            weight = parameters.pop(f"{layer}.weight")
            stored = rotate_weight(weight) if scheme.for_width(weight.shape[1]).rotation else weight
            weights[layer] = quantize(stored, scheme, scale_dtype=context.scale_dtype)
        return UnitResult(weights, parameters)


class QuaRot(SmoothQuant):
    """Smoothing, then Hadamard rotation of every linear layer's input; activations stay float by default."""

    summary = "Hadamard rotation after smoothing"
    rotation = True
    activation_bits = 0


def smoothing_scale(largest: Tensor, weight: Tensor, alpha: float = ALPHA) -> Tensor:
    """Return the scale [in] by which to multiply weights [out, in], given the largest |x| [in] of their inputs."""
    activation = largest.clamp(min=SMALLEST) ** alpha
    return (activation / weight.abs().amax(0).clamp(min=SMALLEST) ** (1 - alpha)).clamp(min=SMALLEST)
