"""Which layer can absorb the inverse of a scale on another layer's inputs, at no cost at inference.

If the columns of a linear layer's weight are multiplied by a scale s per input channel, and its inputs by 1/s, the
model's function does not change. A LayerNorm absorbs 1/s in its gain and offset. Attention is linear in the values, so
the rows of ``qkv`` that compute them absorb the 1/s of ``proj``. The second MLP layer has no such producer, because of
the GELU before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qvggt.model.camera_head import CameraHead
from qvggt.model.layers import Block


@dataclass(frozen=True)
class ScalePath:
    """A pair of layers between which a scale can be moved.

    Attributes:
        producer: dotted name of the layer that absorbs 1/s.
        consumer: dotted name of the linear layer whose weight is multiplied by s.
        values: whether only the last third of the producer's outputs, attention's values, reach the consumer.
    """

    producer: str
    consumer: str
    values: bool = False


_BLOCK = (
    ScalePath("norm1", "attn.qkv"),
    ScalePath("attn.qkv", "attn.proj", values=True),
    ScalePath("norm2", "mlp.fc1"),
)


def scale_paths(module: nn.Module, prefix: str) -> Iterator[ScalePath]:
    """Yield every scale path inside a module with dotted name ``prefix``, in running order."""
    for name, part in module.named_modules(prefix=prefix):
        if isinstance(part, Block):
            yield from (ScalePath(f"{name}.{p.producer}", f"{name}.{p.consumer}", p.values) for p in _BLOCK)
    if isinstance(module, CameraHead):
        yield ScalePath(f"{prefix}.trunk_norm", f"{prefix}.pose_branch.fc1")


def absorb(parameters: dict[str, Tensor], path: ScalePath, scale: Tensor) -> None:
    """Move a scale [in] along a path; changed tensors are replaced in the mapping.

    Args:
        parameters: weights and biases of producer and consumer by full name.
        path: the pair of layers.
        scale: above 0.
    """
    weight, bias = f"{path.producer}.weight", f"{path.producer}.bias"
    divisor = scale
    if path.values:
        divisor = torch.cat((torch.ones_like(scale).repeat(2), scale))
    wide = divisor[:, None] if parameters[weight].ndim == 2 else divisor
    parameters[weight] = parameters[weight] / wide
    parameters[bias] = parameters[bias] / divisor
    consumer = f"{path.consumer}.weight"
    parameters[consumer] = parameters[consumer] * scale
