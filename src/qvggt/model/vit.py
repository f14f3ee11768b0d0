"""The patch embedding: a DINOv2 vision transformer with register tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.model.config import VGGTConfig
from qvggt.model.layers import Block


class PatchProjection(nn.Module):
    """A linear map of every patch: a convolution whose stride is its kernel size."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] to patch tokens [B, (H/p)(W/p), C], row by row."""
        return self.proj(images).flatten(2).transpose(1, 2)  # [B, P, C]


class VisionTransformer(nn.Module):
    """Images to patch tokens; its class and register tokens are dropped at the end."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.patch_size = config.patch_size
        self.grid = config.image_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.register_tokens, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))  # in the published checkpoint; unused at inference
        self.patch_embed = PatchProjection(config.patch_size, dim)
        self.blocks = nn.ModuleList(Block(dim, config.vit_heads, eps=1e-6) for _ in range(config.vit_depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images [B, 3, H, W] to patch tokens [B, (H/p)(W/p), C]."""
        x = self.embed(images)  # [B, 1+R+P, C]
        for block in self.blocks:
            x = block(x)  # [B, 1+R+P, C]
        return self.finish(x)  # [B, P, C]

    def embed(self, images: Tensor) -> Tensor:
        """Map normalized images [B, 3, H, W] to class, register and patch tokens [B, 1+R+P, C]."""
        patches = self.patch_embed(images)  # [B, P, C]
        rows, columns = images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size
        position = self.position_embedding(rows, columns).to(patches.dtype)  # [1, 1+P, C]
        cls = (self.cls_token + position[:, :1]).expand(patches.shape[0], -1, -1)  # [B, 1, C]
        registers = self.register_tokens.expand(patches.shape[0], -1, -1)  # [B, R, C]
        return torch.cat((cls, registers, patches + position[:, 1:]), 1)  # [B, 1+R+P, C]

    def finish(self, x: Tensor) -> Tensor:
        """Map the last block's output [B, 1+R+P, C] to patch tokens [B, P, C]."""
        return self.norm(x)[:, 1 + self.register_tokens.shape[1] :]  # [B, P, C]

    def position_embedding(self, rows: int, columns: int) -> Tensor:
        """Return the position embedding [1, 1 + rows * columns, C], resized bicubically from the stored square grid."""
        if rows == columns == self.grid:
            return self.pos_embed
        stored = self.pos_embed.float()  # [1, 1 + g*g, C]
        square = stored[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)  # [1, C, g, g]
        patches = F.interpolate(square, (rows, columns), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat((stored[:, :1], patches.flatten(2).transpose(1, 2)), 1)  # [1, 1 + rows * columns, C]
