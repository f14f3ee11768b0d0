"""SmoothQuant, and rotation before it: weights and activations both rounded.

Xiao et al., "SmoothQuant" (ICML 2023, arXiv 2211.10438): what a LayerNorm feeds is divided by
max|x|^α / max|w|^(1-α) per channel, α = 1/2, and the weights behind it are multiplied by it. Rotation (Ashkboos et
al., "QuaRot", arXiv 2404.00456; QuantVGGT uses it on VGGT) multiplies every layer's input by a Hadamard matrix, after
which no channel stands out. Activations are rounded per token, at inference, in a type that stays floating.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from qvggt.calibration.run import UnitContext
from qvggt.calibration.statistics import pooled
from qvggt.calibration.unit_store import UnitResult
from qvggt.methods.base import Bench, Method, Plan
from qvggt.model.producers import absorb, scale_paths
from qvggt.quant.affine import quantize
from qvggt.quant.hadamard import rotate_weight
from qvggt.quant.scheme import Scheme
from qvggt.types import LayerId

ALPHA = 0.5
"""How much of the difficulty moves from activations to weights."""

SMALLEST = 1e-5


class SmoothQuant(Method):
    """Smoothed activations rounded to 8 bits per token."""

    summary = "smoothed channels, activations in 8 bits"
    propagate = "float"
    rounds_activations = True
    rotation: ClassVar[bool] = False
    activation_bits: ClassVar[int] = 8

    def plan(self, bench: Bench) -> Plan:
        """Give every linear layer's scheme rounded activations, of the user's width if that was given."""
        plan = super().plan(bench)
        schemes = {
            layer: replace(
                scheme,
                activation_bits=self.options.activation_bits or self.activation_bits or None,
                rotation=self.rotation,
            )
            if isinstance(scheme, Scheme) and bench.shapes[layer].kind == "linear"
            else scheme
            for layer, scheme in plan.schemes.items()
        }
        return Plan(schemes)

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Smooth what LayerNorms feed, rotate where the scheme says so, and round to nearest."""
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
    """Smoothing, then a rotation of every linear layer's input; activations stay floating unless asked otherwise."""

    summary = "Hadamard rotation after smoothing"
    rotation = True
    activation_bits = 0


def smoothing_scale(largest: Tensor, weight: Tensor, alpha: float = ALPHA) -> Tensor:
    """Return the scale [in] that weights [out, in] are multiplied by, for the largest |x| [in] of their inputs."""
    activation = largest.clamp(min=SMALLEST) ** alpha
    return (activation / weight.abs().amax(0).clamp(min=SMALLEST) ** (1 - alpha)).clamp(min=SMALLEST)
