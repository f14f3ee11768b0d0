"""Alternating attention: within each frame, then across all frames of a scene."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from qvggt.model.config import VGGTConfig
from qvggt.model.layers import Block, RopeTable, rope_table
from qvggt.model.token_merging import EXACT, Merging, exact_pairs, merging_for, pooled
from qvggt.model.vit import VisionTransformer
from qvggt.types import AttentionPlan, BlockAttention

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Layout:
    """How the tokens of scenes of one size are arranged.

    Attributes:
        frames: S, of a scene.
        frame_rope: rotary table [P, head width] of a frame's tokens.
        scene_rope: rotary table [S*P, head width] of a scene's tokens.
        merging: token groups of each global block; None for attention within each frame.
    """

    frames: int
    frame_rope: RopeTable
    scene_rope: RopeTable
    merging: tuple[Merging | None, ...]

    def sequence_of(self, index: int) -> tuple[int, RopeTable, Merging]:
        """Return the frames that attend to each other in a global block, their rotary table, and their token groups."""
        merging = self.merging[index]
        return (1, self.frame_rope, EXACT) if merging is None else (self.frames, self.scene_rope, merging)


class Aggregator(nn.Module):
    """Images of scenes to the tokens that the heads read."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        dim, heads = config.embed_dim, config.heads
        self.patch_size = config.patch_size
        self.head_dim = dim // heads
        self.global_attention: Literal["exact", "merged"] | AttentionPlan = "exact"
        self.exact_pairs = exact_pairs(config.depth)
        self.patch_embed = VisionTransformer(config)
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, dim))  # [0]: first frame of a scene, [1]: all others
        self.register_token = nn.Parameter(torch.zeros(1, 2, config.register_tokens, dim))
        self.frame_blocks = nn.ModuleList(Block(dim, heads, qk_norm=True) for _ in range(config.depth))
        self.global_blocks = nn.ModuleList(Block(dim, heads, qk_norm=True) for _ in range(config.depth))

    def forward(self, images: Tensor, keep: Collection[int]) -> dict[int, Tensor]:
        """Run the AA pairs up to the last one in ``keep`` and return the outputs of those in ``keep``.

        Args:
            images: [B, S, 3, H, W] in 0..1.
            keep: indices of AA pairs.

        Returns:
            For each index [B, S, P, 2C]: frame block's tokens, then global block's, along the channels.
        """
        patches = self.patch_embed(normalize(images).flatten(0, 1))  # [B*S, P-5, C]
        x = self.with_special_tokens(patches, images.shape[1])  # [B*S, P, C]
        layout = self.layout(images, x.dtype)
        outputs: dict[int, Tensor] = {}
        for index in range(max(keep, default=-1) + 1):
            x = in_frame = self.frame_attention(index, x, layout)  # [B*S, P, C]
            x = self.scene_attention(index, x, layout)  # [B*S, P, C]
            if index in keep:
                outputs[index] = self.joined(in_frame, x, images)  # [B, S, P, 2C]
        return outputs

    def frame_attention(self, index: int, x: Tensor, layout: Layout) -> Tensor:
        """Run a frame block: tokens [B*S, P, C] to [B*S, P, C]."""
        return self.frame_blocks[index](x, layout.frame_rope)  # [B*S, P, C]

    def scene_attention(self, index: int, x: Tensor, layout: Layout) -> Tensor:
        """Run a global block: tokens [B*S, P, C] to [B*S, P, C]."""
        tokens = x.shape[1]
        frames, rope, merging = layout.sequence_of(index)
        x = x.reshape(-1, frames * tokens, x.shape[2])  # [B, S*P, C], or [B*S, P, C] for attention within frames
        x = self.global_blocks[index](x, rope, merging)  # [B, S*P, C]
        return x.reshape(-1, tokens, x.shape[2])  # [B*S, P, C]

    def joined(self, in_frame: Tensor, in_scene: Tensor, images: Tensor) -> Tensor:
        """Join the outputs [B*S, P, C] of a frame block and its global block: [B, S, P, 2C]."""
        return torch.cat((in_frame, in_scene), -1).unflatten(0, images.shape[:2])  # [B, S, P, 2C]

    @property
    def special_tokens(self) -> int:
        """Tokens of a frame that precede its patch tokens: the camera token and the registers."""
        return 1 + self.register_token.shape[2]

    def with_special_tokens(self, patches: Tensor, frames: int) -> Tensor:
        """Put camera and register tokens before patch tokens [B*S, P-5, C] of scenes of S frames: [B*S, P, C]."""
        special = torch.cat((self.camera_token, self.register_token), 2)  # [1, 2, 5, C]
        special = torch.cat((special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)), 1)  # [1, S, 5, C]
        special = special.expand(patches.shape[0] // frames, -1, -1, -1).flatten(0, 1)  # [B*S, 5, C]
        return torch.cat((special.to(patches.dtype), patches), 1)  # [B*S, P, C]

    def layout(self, images: Tensor, dtype: torch.dtype) -> Layout:
        """Return the layout of the tokens of images [B, S, 3, H, W], with rotary tables in a given type.

        Special tokens have position (0, 0), the patch in row y and column x has position (y+1, x+1).
        """
        frames, (rows, columns) = images.shape[1], self.grid(images)
        y, x = torch.meshgrid(
            torch.arange(1, rows + 1, device=images.device),
            torch.arange(1, columns + 1, device=images.device),
            indexing="ij",
        )
        patches = torch.stack((y, x), -1).flatten(0, 1)  # [P-5, 2]
        special = torch.zeros(self.special_tokens, 2, dtype=patches.dtype, device=images.device)  # [5, 2]
        cos, sin = rope_table(torch.cat((special, patches)), self.head_dim, dtype)  # [P, head_dim] each
        scene_rope = (cos.repeat(frames, 1), sin.repeat(frames, 1))  # [S*P, head_dim] each
        return Layout(frames, (cos, sin), scene_rope, self.block_merging(images))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Return the rows and columns of patches of images [..., H, W]."""
        return images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size

    def block_merging(self, images: Tensor) -> tuple[Merging | None, ...]:
        """Return how each global block merges tokens in scenes of images [B, S, 3, H, W]; None: within each frame."""
        depth = len(self.global_blocks)
        if isinstance(self.global_attention, AttentionPlan):
            blocks = self.global_attention.at(images.shape[1])
            kinds = {block: self._merging_as(block, images) for block in blocks}
            return tuple(kinds[block] for block in blocks)
        if self.global_attention == "exact":
            return (EXACT,) * depth
        return (EXACT,) * self.exact_pairs + (self.merging(images),) * (depth - self.exact_pairs)

    def merging(self, images: Tensor) -> Merging:
        """Return how ``merged`` global attention merges tokens in scenes of images [B, S, 3, H, W]."""
        return merging_for(images.shape[1], self.special_tokens, *self.grid(images)).to(images.device)

    def _merging_as(self, block: BlockAttention, images: Tensor) -> Merging | None:
        if block.kind == "frame":
            return None
        if block.kind == "exact":
            return EXACT
        scene = images.shape[1], self.special_tokens, *self.grid(images)
        return pooled(*scene, side=block.side, sampled=block.kind == "sampled").to(images.device)

    def blocks_of(self, index: int) -> tuple[Block, Block]:
        """Return the frame block and the global block of an AA pair."""
        return cast(Block, self.frame_blocks[index]), cast(Block, self.global_blocks[index])


def normalize(images: Tensor) -> Tensor:
    """Normalize images [..., 3, H, W] in 0..1 by ImageNet's mean and standard deviation."""
    mean = torch.tensor(IMAGENET_MEAN, dtype=images.dtype, device=images.device)[:, None, None]  # [3, 1, 1]
    std = torch.tensor(IMAGENET_STD, dtype=images.dtype, device=images.device)[:, None, None]  # [3, 1, 1]
    return (images - mean).div_(std)  # [..., 3, H, W]
