"""Alternating attention: inside each frame, then across all frames of a scene."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from qvggt.model.config import VGGTConfig
from qvggt.model.layers import Block, Rotation, rotary_table
from qvggt.model.vit import VisionTransformer

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Aggregator(nn.Module):
    """Images of scenes to the tokens that the heads read."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        dim, heads = config.embed_dim, config.heads
        self.patch_size = config.patch_size
        self.head_dim = dim // heads
        self.patch_embed = VisionTransformer(config)
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, dim))  # [0]: first frame of a scene, [1]: all others
        self.register_token = nn.Parameter(torch.zeros(1, 2, config.register_tokens, dim))
        self.frame_blocks = nn.ModuleList(Block(dim, heads, qk_norm=True) for _ in range(config.depth))
        self.global_blocks = nn.ModuleList(Block(dim, heads, qk_norm=True) for _ in range(config.depth))

    @property
    def special_tokens(self) -> int:
        """Tokens of a frame that come before its patches: the camera token and the registers."""
        return 1 + self.register_token.shape[2]

    def forward(self, images: Tensor, keep: Collection[int]) -> dict[int, Tensor]:
        """Run every AA pair and return the outputs of those in ``keep``.

        Args:
            images: [B, S, 3, H, W] in 0..1.
            keep: indices of AA pairs.

        Returns:
            For each index [B, S, P, 2C]: frame block's tokens, then global block's, along the channels.
        """
        batch, frames, _, height, width = images.shape
        rows, columns = height // self.patch_size, width // self.patch_size
        mean = torch.tensor(IMAGENET_MEAN, dtype=images.dtype, device=images.device)[:, None, None]
        std = torch.tensor(IMAGENET_STD, dtype=images.dtype, device=images.device)[:, None, None]
        patches = self.patch_embed(((images - mean) / std).flatten(0, 1))  # [B*S, P-5, C]
        special = torch.cat((self.camera_token, self.register_token), 2)  # [1, 2, 5, C]
        special = torch.cat((special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)), 1)
        special = special.expand(batch, -1, -1, -1).flatten(0, 1)  # [B*S, 5, C]
        x = torch.cat((special.to(patches.dtype), patches), 1)  # [B*S, P, C]
        tokens = x.shape[1]

        frame_rotation = self.rotation(rows, columns, x)
        global_rotation = (frame_rotation[0].repeat(frames, 1), frame_rotation[1].repeat(frames, 1))
        kept = {}
        last = max(keep, default=-1)
        for index, (frame_block, global_block) in enumerate(zip(self.frame_blocks, self.global_blocks, strict=True)):
            if index > last:
                break
            x = in_frame = frame_block(x, frame_rotation)  # [B*S, P, C]
            x = global_block(x.reshape(batch, frames * tokens, -1), global_rotation)  # [B, S*P, C]
            x = x.reshape(batch * frames, tokens, -1)
            if index in keep:
                kept[index] = torch.cat((in_frame, x), -1).unflatten(0, (batch, frames))  # [B, S, P, 2C]
        return kept

    def rotation(self, rows: int, columns: int, like: Tensor) -> Rotation:
        """Return one frame's rotary table: special tokens at (0, 0), the patch of row y, column x at (y+1, x+1)."""
        y, x = torch.meshgrid(
            torch.arange(1, rows + 1, device=like.device),
            torch.arange(1, columns + 1, device=like.device),
            indexing="ij",
        )
        patches = torch.stack((y, x), -1).flatten(0, 1)
        special = torch.zeros(self.special_tokens, 2, dtype=patches.dtype, device=like.device)
        return rotary_table(torch.cat((special, patches)), self.head_dim, like.dtype)
