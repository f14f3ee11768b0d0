"""VGGT: images of a scene to cameras, depth maps and point maps in one pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from qvggt.model.aggregator import Aggregator
from qvggt.model.camera_head import CameraHead
from qvggt.model.config import VGGTConfig
from qvggt.model.dense_head import DenseHead
from qvggt.types import BlockId

Head = Literal["camera", "depth", "point"]
ALL_HEADS: tuple[Head, ...] = get_args(Head)

DENSE_FRAMES = 8
"""Frames that the dense heads work on at a time, at most; more is no faster and takes more memory."""
DENSE_PIXELS = 1 << 18
"""Pixels of all frames that the dense heads work on at a time, if that is more than one frame."""


class VGGT(nn.Module):
    """The whole model, with the parameter names of the published checkpoint (its track head left out)."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        self.config = config
        self.aggregator = Aggregator(config)
        self.camera_head = CameraHead(config)
        self.depth_head = DenseHead(config, out_channels=2)
        self.point_head = DenseHead(config, out_channels=4)

    def forward(
        self, images: Tensor, heads: Collection[Head] = ALL_HEADS, dense_frames: int = DENSE_FRAMES
    ) -> dict[str, Tensor]:
        """Reconstruct scenes.

        Args:
            images: [B, S, 3, H, W] in 0..1; H and W are multiples of the patch size.
            heads: what to compute; nothing else is.
            dense_frames: frames that the dense heads take at a time.

        Returns:
            ``pose_enc`` [B, S, 9] and ``pose_enc_iterations`` [4, B, S, 9]; ``depth`` [B, S, H, W, 1] and
            ``depth_conf`` [B, S, H, W]; ``world_points`` [B, S, H, W, 3] and ``world_points_conf`` [B, S, H, W]:
            those that the heads give.

        Raises:
            ValueError: the images' shape, a head's name or ``dense_frames`` is impossible.
        """
        self.check(images, heads, dense_frames)
        last = self.config.depth - 1
        dense = [head for head in ("depth", "point") if head in heads]
        keep = {last} if "camera" in heads else set()
        kept = self.aggregator(images, keep | set(self.config.dpt_layers if dense else ()))
        result: dict[str, Tensor] = {}
        if "camera" in heads:
            poses = self.camera_head(kept[last][:, :, 0])
            result["pose_enc"], result["pose_enc_iterations"] = poses[-1], poses
        if not dense:
            return result
        special = self.aggregator.special_tokens
        layers = [kept[layer].flatten(0, 1)[:, special:] for layer in self.config.dpt_layers]  # [B*S, P-5, 2C], views
        if "depth" in heads:
            values, confidence = run_dense(self.depth_head, layers, images, dense_frames)
            result["depth"], result["depth_conf"] = values.exp(), confidence
        if "point" in heads:
            values, confidence = run_dense(self.point_head, layers, images, dense_frames)
            result["world_points"] = values.sign() * values.abs().expm1()
            result["world_points_conf"] = confidence
        return result

    def check(self, images: Tensor, heads: Collection[str], dense_frames: int) -> None:
        """Raise ValueError where ``forward`` could not go on."""
        patch = self.config.patch_size
        if images.ndim != 5 or images.shape[2] != 3 or 0 in images.shape:
            raise ValueError(f"expected images [B, S, 3, H, W], none of them 0, got shape {tuple(images.shape)}")
        if images.shape[3] % patch or images.shape[4] % patch:
            raise ValueError(f"expected sides that are multiples of {patch} px, got {tuple(images.shape[3:])}")
        unknown = sorted(set(heads) - set(ALL_HEADS))
        if unknown or not heads:
            raise ValueError(f"expected heads out of {', '.join(ALL_HEADS)}, got {', '.join(unknown) or 'none'}")
        if dense_frames < 1:
            raise ValueError(f"expected dense_frames of at least 1, got {dense_frames}")

    def blocks(self) -> Iterator[tuple[BlockId, nn.Module]]:
        """Yield every transformer block with its id, in the order in which they run."""
        for index, block in enumerate(self.aggregator.patch_embed.blocks):
            yield BlockId(f"patch_embed/{index}"), block
        for index in range(self.config.depth):
            yield BlockId(f"frame/{index}"), self.aggregator.frame_blocks[index]
            yield BlockId(f"global/{index}"), self.aggregator.global_blocks[index]
        for index, block in enumerate(self.camera_head.trunk):
            yield BlockId(f"camera/{index}"), block


def frames_at_a_time(dense_frames: int, pixels: int) -> int:
    """Return how many frames of so many pixels the dense heads take at a time, ``dense_frames`` at most."""
    return max(1, min(dense_frames, DENSE_PIXELS // pixels))


def run_dense(head: DenseHead, layers: list[Tensor], images: Tensor, dense_frames: int) -> tuple[Tensor, Tensor]:
    """Run a dense head over a few frames at a time and return its values and confidence as [B, S, ...]."""
    batch, frames, _, height, width = images.shape
    step = frames_at_a_time(dense_frames, height * width)
    parts = [
        head([layer[start : start + step] for layer in layers], (height, width))
        for start in range(0, batch * frames, step)
    ]
    values = torch.cat([part[0] for part in parts])
    confidence = torch.cat([part[1] for part in parts])
    return values.unflatten(0, (batch, frames)), confidence.unflatten(0, (batch, frames))
