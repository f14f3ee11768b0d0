"""What a model declares to the code outside of it: heads and their outputs, and units that can be run one at a time.

Which scales can be moved between layers is declared in ``producers``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from qvggt.model.config import VGGTConfig
from qvggt.options import ALL_HEADS, Head
from qvggt.types import BlockId

DenseHeadName = Literal["depth", "point"]

HEAD_OUTPUTS: Mapping[Head, tuple[str, str]] = {
    "camera": ("pose_enc", "pose_enc_iterations"),
    "depth": ("depth", "depth_conf"),
    "point": ("world_points", "world_points_conf"),
}
"""Names of each head's outputs."""

OUTPUT_CHANNELS: Mapping[DenseHeadName, int] = {"depth": 2, "point": 4}
"""Channels of each dense head's last layer, including the confidence."""


def signed_expm1(values: Tensor) -> Tensor:
    """Return the inverse of the signed logarithm of 1 + |x|."""
    return values.sign() * values.abs().expm1()


_PRECISE = ("aggregator.patch_embed.patch_embed", "aggregator.patch_embed.norm", "camera_head", "output_conv2.2")
"""Modules that compute in float32 in every compute mode, by name or the end of it: the patch projection and the norm
whose result becomes the tokens, everything about poses, and the last layers of the dense heads."""


def is_precise(module: str) -> bool:
    """Return whether a module, by its dotted name, has to compute in float32 in every compute mode."""
    return module.startswith(_PRECISE) or module.endswith(_PRECISE)


ACTIVATIONS: Mapping[DenseHeadName, Callable[[Tensor], Tensor]] = {
    "depth": torch.exp,
    "point": signed_expm1,
}
"""What maps each dense head's raw values to its output."""


@dataclass(frozen=True)
class ForwardState:
    """The state between two units of the forward pass, for scenes of one size.

    Attributes:
        images: [B, S, 3, H, W] in 0..1.
        tokens: [B*S, P, C], the next block's input; empty before the first unit.
        in_frame: [B*S, P, C], the latest frame block's output, between it and its global block.
        pairs: AA pair -> its tokens [B, S, P, 2C], for the pairs that heads read.
        outputs: of the heads that have run, by the names that ``VGGT.forward`` gives them.
    """

    images: Tensor
    tokens: Tensor
    in_frame: Tensor | None = None
    pairs: Mapping[int, Tensor] = field(default_factory=dict)
    outputs: Mapping[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """Return the activations: every tensor except images and outputs."""
        return [self.tokens, *([] if self.in_frame is None else [self.in_frame]), *self.pairs.values()]

    def first(self, scenes: int) -> ForwardState:
        """Return the state of the first scenes, as views and without outputs."""
        frames = scenes * self.images.shape[1]
        return ForwardState(
            self.images[:scenes],
            self.tokens[:frames],
            None if self.in_frame is None else self.in_frame[:frames],
            {layer: tokens[:scenes] for layer, tokens in self.pairs.items()},
        )


def unit_modules(config: VGGTConfig) -> dict[BlockId, str]:
    """Return the dotted module name of every unit, in running order; together the units hold every layer.

    Ids are ``patch_embed`` (the patch projection), ``patch_embed/3``, ``frame/3``, ``global/3``, ``camera``, ``depth``
    and ``point``, whole heads, of which none reads another's outputs.
    """
    names = {"patch_embed": "aggregator.patch_embed.patch_embed"}
    names |= {f"patch_embed/{index}": f"aggregator.patch_embed.blocks.{index}" for index in range(config.vit_depth)}
    for index in range(config.depth):
        names[f"frame/{index}"] = f"aggregator.frame_blocks.{index}"
        names[f"global/{index}"] = f"aggregator.global_blocks.{index}"
    names |= {head: f"{head}_head" for head in ALL_HEADS}
    return {BlockId(unit): module for unit, module in names.items()}
