"""Quantize a module's weights for the length of a `with`, to measure what that does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from qvggt.qmodel.convert import quantizable_modules
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.scheme import LayerScheme, Scheme
from qvggt.types import LayerId


@contextmanager
def fake_quantized(
    module: nn.Module, scheme: LayerScheme | Mapping[str, LayerScheme], scale_dtype: torch.dtype = torch.float16
) -> Iterator[nn.Module]:
    """Give layers the values that their weights have after quantization; the weights come back at the end.

    Args:
        module: a model, a block or a single layer.
        scheme: for every linear layer and convolution inside, or a scheme per layer name as seen from ``module``.
        scale_dtype: the type in which scales are stored.

    Yields:
        The module itself.

    Raises:
        KeyError: a name in ``scheme`` is no layer of the module.
        QvggtError: weights are NaN or infinite; nothing is changed then.
    """
    layers = quantizable_modules(module)
    schemes = scheme if isinstance(scheme, Mapping) else dict.fromkeys(layers, scheme)
    # All new values are computed before the first is set, so that a failure leaves the module as it was.
    weights = [(layers[LayerId(name)].weight, chosen) for name, chosen in schemes.items()]
    rounded = [(weight, fake_quantize(weight, chosen, scale_dtype)) for weight, chosen in weights]
    kept = [(weight, weight.data) for weight, _ in rounded]
    try:
        for weight, values in rounded:
            weight.data = values
        yield module
    finally:
        for weight, values in kept:
            weight.data = values


def fake_quantize(weight: Tensor, scheme: LayerScheme, scale_dtype: torch.dtype = torch.float16) -> Tensor:
    """Return a weight's values after quantization, in its own shape and type."""
    if isinstance(scheme, Scheme):
        return dequantize(quantize(weight, scheme, scale_dtype=scale_dtype)).view(weight.shape).to(weight.dtype)
    return weight.detach().to(getattr(torch, scheme.dtype)).to(weight.dtype)
