"""Patch tokens of four AA pairs to a dense map per frame (DPT), with a confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.model.config import VGGTConfig

OUTPUT_HIDDEN = 32
"""Channels before the last convolution, as published."""

TILE_VALUES = 1 << 22
"""Numbers of the largest maps, those after a resize, that there are at a time: 16 MB of float32."""


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions added to the rectified input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, F, H, W] to [B, F, H, W]; x is lost where nobody asks for gradients."""
        x = rectified(x)
        return added(self.conv2(rectified(self.conv1(x))), x)


class Fusion(nn.Module):
    """Add the skip map to the coarser map's result and bring the sum to the next size."""

    def __init__(self, channels: int, has_skip: bool = True) -> None:
        super().__init__()
        if has_skip:
            self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Fuse [B, F, h, w] maps, which are then to be resized; ``skip`` is lost where nobody asks for gradients.

        The 1x1 convolution comes before the resize: the two commute, since bilinear weights sum to one, and it
        then works on a quarter of the pixels.
        """
        if skip is not None:
            x = added(self.resConfUnit1(skip), x)
        return self.out_conv(self.resConfUnit2(x))


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

    def coarse(self, level: int, x: Tensor) -> Tensor:
        """Bring the map of level 2 or 3 to the channels of fusion."""
        return self.layer3_rn(x) if level == 2 else self.layer4_rn(x)


class DenseHead(nn.Module):
    """DPT head. The last of its output channels is the confidence, 1 + exp; the others are up to the caller."""

    def __init__(self, config: VGGTConfig, out_channels: int) -> None:
        super().__init__()
        dim, channels = 2 * config.embed_dim, config.dpt_channels
        self.patch_size = config.patch_size
        self.held_dtype: torch.dtype | None = None  # of what has begun, until the last pair comes; None: its own
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

    def begin(self, level: int, tokens: Tensor, image_hw: tuple[int, int]) -> Tensor:
        """Turn one AA pair's tokens into a map that is smaller than they are: as far as nothing grows.

        Args:
            level: which of the four pairs, 0..3.
            tokens: [B, (H/p)(W/p), 2C], without special tokens.
            image_hw: height and width in pixels of the maps to make.

        Returns:
            [B, channels, h, w]: projected, the coarser two convolved too.
        """
        rows, columns = image_hw[0] // self.patch_size, image_hw[1] // self.patch_size
        grid = self.norm(tokens).transpose(1, 2).unflatten(2, (rows, columns))  # [B, 2C, rows, columns]
        x = add_position(self.projects[level](grid), image_hw[1] / image_hw[0])
        return x if level < 2 else self.scratch.coarse(level, self.resize_layers[level](x))

    def forward(self, begun: Sequence[Tensor], image_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Turn what ``begin`` gave into maps.

        Args:
            begun: the four levels, [B, ...] each; lost where nobody asks for gradients.
            image_hw: height and width in pixels of the maps to make.

        Returns:
            Raw values [B, H, W, channels - 1] and confidence [B, H, W], at least 1.
        """
        aspect = image_hw[1] / image_hw[0]
        s = self.scratch
        x = self.fuse(begun)  # [B, F, 4 rows, 4 columns]
        x = resized_then(x, (2 * x.shape[2], 2 * x.shape[3]), lambda part, first: s.output_conv1(part))
        x = resized_then(
            x, image_hw, lambda part, first: s.output_conv2(add_position(part, aspect, first, image_hw[0]))
        )
        x = x.permute(0, 2, 3, 1)  # [B, H, W, channels]
        return x[..., :-1], 1 + x[..., -1].exp()

    def fuse(self, begun: Sequence[Tensor]) -> Tensor:
        """Fuse the four levels from coarse to fine and return the result at the finest map's size."""
        s = self.scratch
        m3, m4 = begun[2:]
        m2 = s.layer2_rn(self.resize_layers[1](begun[1]))
        x = resized(s.refinenet4(m4), m3.shape[-2:])
        x = resized(s.refinenet3(x, m3), m2.shape[-2:])
        m1 = s.layer1_rn(self.resize_layers[0](begun[0]))
        x = resized(s.refinenet2(x, m2), m1.shape[-2:])
        return s.refinenet1(x, m1)


def rectified(x: Tensor) -> Tensor:
    """Return max(x, 0), in place where nobody asks for gradients."""
    return F.relu_(x) if torch.is_inference_mode_enabled() else F.relu(x)


def added(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y, in x's place where nobody asks for gradients."""
    return x.add_(y) if torch.is_inference_mode_enabled() else x + y


def resized(x: Tensor, hw: Sequence[int]) -> Tensor:
    """Return maps [B, C, h, w] resized bilinearly to ``hw``, corners aligned."""
    return F.interpolate(x, tuple(hw), mode="bilinear", align_corners=True)


def resized_then(x: Tensor, hw: tuple[int, int], convolve: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Resize maps and convolve them with kernels of 3x3 at most, some rows at a time.

    Args:
        x: [B, C, h, w].
        hw: size to bring them to.
        convolve: called with rows of the resized maps, and the first row's number.
    """
    rows = max(1, TILE_VALUES // (hw[1] * x.shape[0] * x.shape[1]))
    if rows >= hw[0]:
        return convolve(resized(x, hw), 0)
    parts = []
    out: Tensor | None = None
    for top in range(0, hw[0], rows):
        bottom = min(top + rows, hw[0])
        first, last = max(top - 1, 0), min(bottom + 1, hw[0])  # the convolution sees a row more on either side
        part = convolve(resized_rows(x, hw, first, last), first)[:, :, top - first : bottom - first]
        if not torch.is_inference_mode_enabled():
            parts.append(part)
            continue
        if out is None:
            sizes = *part.shape[:2], *hw
            out = torch.empty(sizes, dtype=part.dtype, device=part.device, memory_format=layout(part))
        out[:, :, top:bottom] = part
    return torch.cat(parts, 2) if out is None else out


def resized_rows(x: Tensor, hw: tuple[int, int], first: int, last: int) -> Tensor:
    """Return the rows from ``first`` to ``last`` of maps [B, C, h, w] resized bilinearly to ``hw``, corners aligned."""
    scale = (x.shape[2] - 1) / (hw[0] - 1)
    source = torch.arange(first, last, dtype=torch.float32, device=x.device) * scale
    above = source.long().clamp(max=x.shape[2] - 1)
    below = (above + 1).clamp(max=x.shape[2] - 1)
    share = (source - above).to(x.dtype)[:, None]
    rows = torch.lerp(rows_of(x, above), rows_of(x, below), share)  # [B, C, last - first, w]
    return resized(rows, (last - first, hw[1]))


def rows_of(x: Tensor, rows: Tensor) -> Tensor:
    """Return some rows of maps [B, C, h, w], which lie in memory as the maps do."""
    if layout(x) is torch.channels_last:
        return x.permute(0, 2, 3, 1)[:, rows].permute(0, 3, 1, 2)
    return x[:, :, rows]


def layout(x: Tensor) -> torch.memory_format:
    """Return how maps lie in memory: integer convolutions leave the channels of a pixel side by side."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def add_position(x: Tensor, aspect: float, first: int = 0, height: int | None = None) -> Tensor:
    """Add a fixed sinusoidal embedding of the position to maps, in place where nobody asks for gradients.

    Args:
        x: [B, C, rows, w].
        aspect: width / height of the images.
        first: row of the whole maps that x begins with.
        height: of the whole maps; x's own if None.
    """
    channels, rows, width = x.shape[1:]
    diagonal = (aspect**2 + 1) ** 0.5
    across = axis_embedding(aspect / diagonal, width, channels // 2, x.device)  # [w, C/2]
    down = axis_embedding(1 / diagonal, height or rows, channels // 2, x.device)[first : first + rows]  # [rows, C/2]
    across, down = (0.1 * across).T[:, None].to(x.dtype), (0.1 * down).T[:, :, None].to(x.dtype)
    first_half, second_half = x[:, : channels // 2], x[:, channels // 2 :]
    if not torch.is_inference_mode_enabled():
        return torch.cat((first_half + across, second_half + down), 1)
    first_half += across
    second_half += down
    return x


def axis_embedding(span: float, steps: int, channels: int, device: torch.device) -> Tensor:
    """Return [steps, channels]: sines, then cosines, of positions spread over -span..span."""
    end = span * (steps - 1) / steps
    # On the CPU, whatever the device: Apple's GPUs have no float64.
    positions = torch.linspace(-end, end, steps, dtype=torch.float64, device="cpu")
    half = channels // 2
    frequencies = 100.0 ** -(torch.arange(half, dtype=torch.float64, device="cpu") / half)
    angles = positions[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), -1).float().to(device)
