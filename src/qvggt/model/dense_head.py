"""Dense prediction head (DPT): patch tokens of four AA pairs to a map per frame, with a confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.model.config import VGGTConfig

OUTPUT_HIDDEN = 32
"""Channels before the last convolution, as published."""

DENSE_PIXELS = 1 << 18
"""Most pixels that a dense head processes at a time, unless a single frame has more."""


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, added to the rectified input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, F, h, w] to [B, F, h, w]."""
        x = F.relu(x)  # [B, F, h, w]; the published code rectifies in place, so the skip carries relu(x)
        return self.conv2(F.relu(self.conv1(x))) + x  # [B, F, h, w]


class Fusion(nn.Module):
    """Add a skip map to the coarser level's result and refine the sum."""

    def __init__(self, channels: int, has_skip: bool = True) -> None:
        super().__init__()
        if has_skip:
            self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Fuse maps [B, F, h, w], which the caller resizes afterwards.

        The published order is resize, then 1x1 convolution. The two commute, since bilinear weights sum to one, and
        in this order the convolution works on a quarter of the pixels.
        """
        if skip is not None:
            x = self.resConfUnit1(skip) + x  # [B, F, h, w]
        return self.out_conv(self.resConfUnit2(x))  # [B, F, h, w]


class Scratch(nn.Module):
    """The convolutions between the four maps and the output, under their published names."""

    def __init__(self, config: VGGTConfig, out_channels: int) -> None:
        super().__init__()
        features = config.dpt_features
        c1, c2, c3, c4 = config.dpt_channels
        self.layer1_rn = nn.Conv2d(c1, features, 3, padding=1, bias=False)
        self.layer2_rn = nn.Conv2d(c2, features, 3, padding=1, bias=False)
        self.layer3_rn = nn.Conv2d(c3, features, 3, padding=1, bias=False)
        self.layer4_rn = nn.Conv2d(c4, features, 3, padding=1, bias=False)
        self.refinenet1 = Fusion(features)
        self.refinenet2 = Fusion(features)
        self.refinenet3 = Fusion(features)
        self.refinenet4 = Fusion(features, has_skip=False)
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, OUTPUT_HIDDEN, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(OUTPUT_HIDDEN, out_channels, 1),
        )


class DenseHead(nn.Module):
    """DPT head. Its last output channel is the confidence; the caller gives the others their activation."""

    def __init__(self, config: VGGTConfig, out_channels: int) -> None:
        super().__init__()
        dim, channels = 2 * config.embed_dim, config.dpt_channels
        self.patch_size = config.patch_size
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.projects = nn.ModuleList(nn.Conv2d(dim, c, 1) for c in channels)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            )
        )
        self.scratch = Scratch(config, out_channels)

    def forward(self, layers: Sequence[Tensor], image_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Map the patch tokens of four AA pairs to one map per frame.

        Args:
            layers: [B, (H/p)(W/p), 2C] each, without special tokens; the earliest pair first.
            image_hw: H and W in pixels, of the images and of the maps.

        Returns:
            Raw values [B, H, W, channels - 1], before any activation, and confidence [B, H, W], at least 1.
        """
        s, aspect = self.scratch, image_hw[1] / image_hw[0]
        levels = []
        for index, tokens in enumerate(layers):
            x = self.projects[index](self.grid(tokens, image_hw))  # [B, c, rows, columns]
            levels.append(self.to_level(index, add_position(x, aspect)))  # [B, F, h, w], the finest first
        x = self.fuse(levels)  # [B, F, 4 rows, 4 columns]
        x = s.output_conv1(resized(x, (2 * x.shape[2], 2 * x.shape[3])))  # [B, F/2, 8 rows, 8 columns]
        x = s.output_conv2(add_position(resized(x, image_hw), aspect))  # [B, channels, H, W]
        x = x.permute(0, 2, 3, 1)  # [B, H, W, channels]
        return x[..., :-1], 1 + x[..., -1].exp()

    def grid(self, tokens: Tensor, image_hw: tuple[int, int]) -> Tensor:
        """Normalize patch tokens [B, P, 2C] and lay them out as a map [B, 2C, rows, columns]."""
        rows, columns = image_hw[0] // self.patch_size, image_hw[1] // self.patch_size
        return self.norm(tokens).transpose(1, 2).unflatten(2, (rows, columns))  # [B, 2C, rows, columns]

    def to_level(self, index: int, x: Tensor) -> Tensor:
        """Bring a projected map [B, c, rows, columns] to the size and channels [B, F, h, w] of a level, 0..3."""
        return self.scratch.get_submodule(f"layer{index + 1}_rn")(self.resize_layers[index](x))  # [B, F, h, w]

    def fuse(self, levels: Sequence[Tensor]) -> Tensor:
        """Fuse four levels [B, F, h, w] from coarse to fine, at the size of the finest."""
        s, (m1, m2, m3, m4) = self.scratch, levels
        x = resized(s.refinenet4(m4), m3.shape[-2:])  # [B, F, rows, columns]
        x = resized(s.refinenet3(x, m3), m2.shape[-2:])  # [B, F, 2 rows, 2 columns]
        x = resized(s.refinenet2(x, m2), m1.shape[-2:])  # [B, F, 4 rows, 4 columns]
        return s.refinenet1(x, m1)  # [B, F, 4 rows, 4 columns]


def dense_frames_at_a_time(dense_frames: int, pixels: int) -> int:
    """Return how many frames of ``pixels`` pixels a dense head processes at a time, given the most that is allowed."""
    return max(1, min(dense_frames, DENSE_PIXELS // pixels))


def run_in_frames(
    head: DenseHead, layers: Sequence[Tensor], image_hw: tuple[int, int], dense_frames: int
) -> tuple[Tensor, Tensor]:
    """Run a dense head on a few frames at a time.

    Args:
        head: to run.
        layers: patch tokens [B, S, P, 2C] of four AA pairs.
        image_hw: height and width in pixels of the images.
        dense_frames: most frames at a time.

    Returns:
        Raw values [B, S, H, W, channels - 1], before any activation, and confidence [B, S, H, W].
    """
    scenes = layers[0].shape[:2]
    layers = [tokens.flatten(0, 1) for tokens in layers]  # [B*S, P, 2C] each
    step = dense_frames_at_a_time(dense_frames, math.prod(image_hw))
    starts = range(0, len(layers[0]), step)
    parts = [head([tokens[start : start + step] for tokens in layers], image_hw) for start in starts]
    values, confidence = (torch.cat(part) for part in zip(*parts, strict=True))  # [B*S, H, W, ...] each
    return values.unflatten(0, scenes), confidence.unflatten(0, scenes)


def resized(x: Tensor, hw: Sequence[int]) -> Tensor:
    """Resize maps [B, C, h, w] bilinearly to ``hw``, corners aligned."""
    return F.interpolate(x, tuple(hw), mode="bilinear", align_corners=True)  # [B, C, *hw]


def add_position(x: Tensor, aspect: float) -> Tensor:
    """Add a fixed sinusoidal position embedding to maps [B, C, h, w] of images with this ratio of width to height."""
    across, down = position_embedding(x, aspect, x.shape[2])  # [C/2, 1, w], [C/2, h, 1]
    half = x.shape[1] // 2
    # Slices, not chunk: its gradient has another layout, which changes the last digits of tuning.
    first_half, second_half = x[:, :half], x[:, half:]  # [B, C/2, h, w] each
    return torch.cat((first_half + across, second_half + down), 1)  # [B, C, h, w]


def position_embedding(x: Tensor, aspect: float, height: int) -> tuple[Tensor, Tensor]:
    """Return the embedding's halves for maps [B, C, ..., w] of some height: [C/2, 1, w] and [C/2, height, 1]."""
    channels, width = x.shape[1], x.shape[3]
    diagonal = (aspect**2 + 1) ** 0.5
    across = axis_embedding(aspect / diagonal, width, channels // 2, x.device)  # [w, C/2]
    down = axis_embedding(1 / diagonal, height, channels // 2, x.device)  # [height, C/2]
    return (0.1 * across).T[:, None].to(x.dtype), (0.1 * down).T[:, :, None].to(x.dtype)


def axis_embedding(span: float, steps: int, channels: int, device: torch.device) -> Tensor:
    """Return [steps, channels]: sines, then cosines, of positions spread over -span..span."""
    end = span * (steps - 1) / steps
    # On the CPU, whatever the device: Apple's GPUs have no float64.
    positions = torch.linspace(-end, end, steps, dtype=torch.float64, device="cpu")
    half = channels // 2
    frequencies = 100.0 ** -(torch.arange(half, dtype=torch.float64, device="cpu") / half)
    angles = positions[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), -1).float().to(device)
