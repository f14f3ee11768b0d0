"""Norms of special and patch tokens, layer by layer: outlying special tokens distort calibration on all tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from qvggt.model import VGGT
from qvggt.types import Scene


@dataclass(frozen=True)
class TokenNorms:
    """Mean 2-norm of tokens after one AA pair's global block.

    Attributes:
        layer: index of the pair.
        camera: of camera tokens.
        register: of register tokens.
        patch: of patch tokens.
    """

    layer: int
    camera: float
    register: float
    patch: float

    @property
    def ratio(self) -> float:
        """Norm of special tokens, camera and registers together, against that of patch tokens."""
        return (self.camera + 4 * self.register) / 5 / self.patch


@torch.inference_mode()
def token_norms(model: VGGT, scenes: Iterable[Scene]) -> list[TokenNorms]:
    """Return the norms of every AA pair, averaged over scenes of one size."""
    channels, special = model.config.embed_dim, model.special_tokens
    pairs = range(model.config.depth)
    sums = torch.zeros(len(pairs), 3, dtype=torch.float64)
    count = 0
    for scene in scenes:
        kept = model.aggregator(torch.from_numpy(scene.images)[None], set(pairs))
        for layer in pairs:
            norms = kept[layer][..., channels:].norm(dim=-1).double()  # [1, S, P]
            parts = (norms[..., 0], norms[..., 1:special], norms[..., special:])
            sums[layer] += torch.stack([part.mean() for part in parts])
        count += 1
    return [TokenNorms(layer, *(sums[layer] / max(count, 1)).tolist()) for layer in pairs]
