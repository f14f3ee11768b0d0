"""Models whose layers compute in a half-precision type: weights and activations of 16 bits, sums of 32.

Tokens between blocks, statistics of norms and of softmax, and the layers that a model declares as precise (camera head,
last layers of the dense heads) stay in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.backends import Backend, operators
from qvggt.backends.dense import is_inference
from qvggt.backends.native import halves, passes
from qvggt.model import VGGT
from qvggt.model.layers import (
    Arithmetic,
    Attention,
    LayerScale,
    Mlp,
    RopeTable,
    normalized_and_rotated,
    use_arithmetic,
)
from qvggt.model.units import is_precise
from qvggt.nn.conv import CastConv2d, CastConvTranspose2d
from qvggt.nn.linear import CastLinear, PackedLayer


class CastNorm(nn.LayerNorm):
    """A layer norm that computes in float32 and returns a half-precision type."""

    dtype: torch.dtype

    @classmethod
    def like(cls, layer: nn.LayerNorm, dtype: torch.dtype) -> CastNorm:
        """Return a norm with a float one's parameters."""
        with torch.device("meta"):
            new = cls(list(layer.normalized_shape), layer.eps)
        new.weight, new.bias, new.dtype = layer.weight, layer.bias, dtype
        return new.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """Map [..., C] of any floating type to [..., C]."""
        if self.dtype == torch.bfloat16 and passes.supports(input, torch.float32) and is_inference(input, self.weight):
            return operators.normalize_bfloat16(input, self.weight, self.bias, self.eps)
        return F.layer_norm(input.float(), self.normalized_shape, self.weight, self.bias, self.eps).to(self.dtype)


class HalfScale(LayerScale):
    """A gain per channel on a residual branch of bfloat16, added to float32 tokens in one pass where there is one."""

    @classmethod
    def like(cls, layer: LayerScale) -> HalfScale:
        """Return one with another's parameter."""
        with torch.device("meta"):
            new = cls(len(layer.gamma))
        new.gamma = layer.gamma
        return new.train(layer.training)

    def forward(self, x: Tensor, branch: Tensor, out: Tensor | None = None) -> Tensor:
        """Return x [..., C] plus the scaled branch [..., C], written to ``out`` if given."""
        compiled = passes.supports(branch, torch.bfloat16) and passes.supports(x, torch.float32)
        if not (compiled and is_inference(x, branch, self.gamma) and (out is None or out.is_contiguous())):
            return super().forward(x, branch, out)
        out = torch.empty_like(x) if out is None else out
        operators.add_scaled_bfloat16(x, branch, self.gamma, out)
        return out


def use_half(model: VGGT, backend: Backend, keep_stored: bool) -> None:
    """Make a model's layers compute in a backend's half-precision type, in place.

    Args:
        model: float or quantized, possibly on the meta device.
        backend: one with a ``dtype``.
        keep_stored: whether weights that are not packed keep the type in which they are stored, and are converted at
            each use; otherwise they are converted once.
    """
    assert backend.dtype is not None
    precise = backend.precise
    use_arithmetic(model, Arithmetic(backend.attend, backend.cache_dtype, backend.dtype, _rotated))
    for name, layer in list(model.named_modules()):
        dtype = torch.float32 if is_precise(name) else backend.dtype
        if isinstance(layer, PackedLayer):
            layer.dtype = dtype
            layer.backend = precise if is_precise(name) else layer.backend
        elif isinstance(layer, nn.LayerNorm) and not is_precise(name):
            replace_layer(model, name, CastNorm.like(layer, dtype))
        elif isinstance(layer, LayerScale) and not is_precise(name):
            replace_layer(model, name, HalfScale.like(layer))
        elif isinstance(layer, Mlp):
            layer.gelu_ = _gelu_
        elif isinstance(layer, Attention) and is_precise(name):
            layer.arithmetic = Arithmetic(precise.attend, precise.cache_dtype)
        elif cast := next((cast for kind, cast in _CAST.items() if isinstance(layer, kind)), None):
            stored = layer.weight.dtype if keep_stored else dtype
            replace_layer(model, name, cast.like(layer, stored, dtype))


def _rotated(x: Tensor, norm: nn.Module, rope: RopeTable | None) -> Tensor:
    """Compute ``normalized_and_rotated``, in one compiled pass where there is one."""
    weight, bias, eps = (getattr(norm, name, None) for name in ("weight", "bias", "eps"))
    if rope is None or not (halves.supports(x) and is_inference(x, weight)):
        return normalized_and_rotated(x, norm, rope)
    return operators.rotate_bfloat16(x, weight, bias, eps or 0.0, cos=rope[0], sin=rope[1])


def _gelu_(x: Tensor) -> Tensor:
    """Replace x by its GELU, in a compiled pass where there is one."""
    if not (passes.supports(x, torch.bfloat16) and is_inference(x)):
        return torch.ops.aten.gelu_(x)
    operators.gelu_bfloat16_(x)
    return x


_CAST: dict[type, Any] = {nn.Linear: CastLinear, nn.Conv2d: CastConv2d, nn.ConvTranspose2d: CastConvTranspose2d}


def replace_layer(model: nn.Module, name: str, new: nn.Module) -> None:
    """Replace a module of a model by another, under the same name."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)
