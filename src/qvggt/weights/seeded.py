"""Random stand-in weights, to measure speed and memory at full size without a download.

Each tensor is drawn from a Philox stream keyed by the CRC-32 of its name, and scaled so that activations stay of
order one. The same names and shapes give the same weights on every machine.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from qvggt.model.config import VGGTConfig
from qvggt.nn.convert import parameter_shapes


class SeededSource:
    """The stand-in weights of an architecture, drawn one tensor at a time."""

    def __init__(self, config: VGGTConfig) -> None:
        self.shapes = parameter_shapes(config)

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self.shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self.shapes[name]

    def tensor(self, name: str) -> Tensor:
        """Draw a tensor, float32."""
        return torch.from_numpy(seeded_array(name, self.shapes[name]))


def seeded_array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the float32 stand-in for a parameter."""
    stream = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    values = stream.standard_normal(shape, dtype=np.float32)
    leaf = name.rpartition(".")[2]
    if leaf == "gamma":
        values *= np.float32(0.2)
        values += 1
        values *= np.float32(0.3)
    elif leaf == "weight" and len(shape) == 1:
        values *= np.float32(0.1)
        values += 1
    elif leaf == "weight":
        values /= np.float32(math.sqrt(math.prod(shape[1:])))
    elif leaf == "bias":
        values *= np.float32(0.05)
        if name.endswith("pose_branch.fc2.bias"):
            values[-2:] += np.float32(0.6)  # keeps both fields of view positive
    else:
        values *= np.float32(0.5)
    return values
