"""Alternating attention: inside each frame, then across all frames of a scene."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from qvggt.model.config import VGGTConfig
from qvggt.model.layers import CHUNK_TOKENS, Block, Rotation, rotary_table
from qvggt.model.merging import EXACT, Merging, exact_pairs, merge
from qvggt.model.vit import VisionTransformer
from qvggt.options import GlobalAttention

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Aggregator(nn.Module):
    """Images of scenes to the tokens that the heads read."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        dim, heads = config.embed_dim, config.heads
        self.patch_size = config.patch_size
        self.head_dim = dim // heads
        self.global_attention: GlobalAttention = "exact"
        self.exact_pairs = exact_pairs(config.depth)
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
        sizes = images.shape[:2]
        return {index: torch.cat(pair, -1).unflatten(0, sizes) for index, *pair in self.pairs(images, keep)}

    def pairs(
        self, images: Tensor, keep: Collection[int], chunk_tokens: int = CHUNK_TOKENS
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Run every AA pair up to the last in ``keep`` and yield the outputs of those in ``keep`` as they come.

        Args:
            images: [B, S, 3, H, W] in 0..1.
            keep: indices of AA pairs.
            chunk_tokens: tokens that pass through a block's layers at a time.

        Yields:
            A pair's index, and the tokens [B*S, P, C] of its frame block and of its global block. The next pair may
            overwrite them.
        """
        batch, frames = images.shape[:2]
        patches = self.patch_embed(normalise(images).flatten(0, 1), chunk_tokens)  # [B*S, P-5, C]
        x = self.with_special_tokens(patches, frames)  # [B*S, P, C]
        del patches
        tokens = x.shape[1]
        frame_rotation, global_rotation = self.rotations(images, x.dtype)
        merging = self.merging(images)
        last = max(keep, default=-1)
        for index, (frame_block, global_block) in enumerate(zip(self.frame_blocks, self.global_blocks, strict=True)):
            if index > last:
                break
            kept = index in keep
            x = in_frame = frame_block(x, frame_rotation, EXACT, chunk_tokens, in_place=True)  # [B*S, P, C]
            if kept and batch * frames * tokens > chunk_tokens:  # it waits for what is read with it
                in_frame = narrowed(x, cast(Block, global_block).attn.held_dtype)
            x = x.reshape(batch, frames * tokens, -1)
            fewer = merging if index >= self.exact_pairs else EXACT
            in_place = not kept or in_frame.dtype != x.dtype
            x = global_block(x, global_rotation, fewer, chunk_tokens, in_place)  # [B, S*P, C]
            x = x.reshape(batch * frames, tokens, -1)
            if kept:
                yield index, in_frame, x
            del in_frame

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Return the rows and columns of patches of images [..., H, W]."""
        return images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size

    def merging(self, images: Tensor) -> Merging:
        """Return how tokens are merged for global attention among images [B, S, 3, H, W]."""
        if self.global_attention == "exact":
            return EXACT
        return merge(images.shape[1], self.special_tokens, *self.grid(images)).to(images.device)

    def with_special_tokens(self, patches: Tensor, frames: int) -> Tensor:
        """Put camera and register tokens before patch tokens [B*S, P-5, C] of scenes with S frames: [B*S, P, C]."""
        special = torch.cat((self.camera_token, self.register_token), 2)  # [1, 2, 5, C]
        special = torch.cat((special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)), 1)
        special = special.expand(patches.shape[0] // frames, -1, -1, -1).flatten(0, 1)  # [B*S, 5, C]
        return torch.cat((special.to(patches.dtype), patches), 1)

    def rotations(self, images: Tensor, dtype: torch.dtype) -> tuple[Rotation, Rotation]:
        """Return the rotary tables of frame blocks and of global blocks for images [B, S, 3, H, W].

        Special tokens are at (0, 0), the patch of row y and column x at (y+1, x+1).
        """
        rows, columns = self.grid(images)
        y, x = torch.meshgrid(
            torch.arange(1, rows + 1, device=images.device),
            torch.arange(1, columns + 1, device=images.device),
            indexing="ij",
        )
        patches = torch.stack((y, x), -1).flatten(0, 1)
        special = torch.zeros(self.special_tokens, 2, dtype=patches.dtype, device=images.device)
        cos, sin = rotary_table(torch.cat((special, patches)), self.head_dim, dtype)
        frames = images.shape[1]
        return (cos, sin), (cos.repeat(frames, 1), sin.repeat(frames, 1))


def normalise(images: Tensor) -> Tensor:
    """Bring images [..., 3, H, W] in 0..1 to the mean and deviation that the patch embedding was trained on."""
    mean = torch.tensor(IMAGENET_MEAN, dtype=images.dtype, device=images.device)[:, None, None]
    std = torch.tensor(IMAGENET_STD, dtype=images.dtype, device=images.device)[:, None, None]
    return (images - mean).div_(std)


def narrowed(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Return x in a narrower type, or x itself if there is none or not all of its numbers fit."""
    if dtype is None:
        return x
    least, most = x.aminmax()
    limit = torch.finfo(dtype).max
    return x.to(dtype) if -limit <= least and most <= limit else x
