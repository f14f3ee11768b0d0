"""Degrade rendered images like those of a hand-held camera; the geometry is unchanged."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from qvggt.data.rooms.scene import DEGRADE_STREAM, Dice


def degrade_images(images: Tensor, seed: int) -> Tensor:
    """Return images [S, 3, H, W] in 0..1 with motion blur, exposure, vignetting, noise and JPEG artifacts.

    Blur, exposure and noise are drawn per frame, vignetting and JPEG quality per camera, all from the seed.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected images [S, 3, H, W], got shape {tuple(images.shape)}")
    dice = Dice(seed, DEGRADE_STREAM)
    height, width = images.shape[-2:]
    v, u = np.mgrid[0:height, 0:width]
    radius = ((u - width / 2) ** 2 + (v - height / 2) ** 2) / (width**2 + height**2) * 4
    vignette = 1.0 - dice.uniform(0.05, 0.35) * radius
    noise, quality = dice.uniform(0.006, 0.03), dice.integer(45, 90)
    frames = []
    for image in images.cpu():
        length = dice.uniform(0.0, 0.03) if dice.chance(0.6) else 0.0
        blurred = _motion_blur(image, length, dice.uniform(0.0, math.pi)).numpy().astype(np.float64)
        gain = 2.0 ** dice.uniform(-0.5, 0.4)
        white = np.array([dice.uniform(0.92, 1.08), 1.0, dice.uniform(0.92, 1.08)])
        seen = blurred * (gain * vignette) * white[:, None, None]
        grain = dice.rng.standard_normal(seen.shape)
        seen = seen + noise * np.sqrt(np.clip(seen, 0.02, 1.0)) * grain
        frames.append(_jpeg(np.clip(seen, 0.0, 1.0), quality))
    return torch.from_numpy(np.stack(frames)).to(images.device)


def _motion_blur(image: Tensor, length: float, angle: float) -> Tensor:
    """Return the mean of seven copies shifted along a line; ``length`` is a share of the picture's width."""
    if length == 0.0:
        return image
    height, width = image.shape[-2:]
    rows, columns = (torch.arange(n, dtype=image.dtype, device=image.device) + 0.5 for n in (height, width))
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    grids = []
    for share in np.linspace(-0.5, 0.5, 7):
        shift = float(share) * length * width
        x, y = u + shift * math.cos(angle), v + shift * math.sin(angle)
        grids.append(torch.stack((2 * x / width - 1, 2 * y / height - 1), -1))
    copies = image[None].expand(len(grids), -1, -1, -1)
    shifted = F.grid_sample(copies, torch.stack(grids), padding_mode="border", align_corners=False)
    return shifted.mean(0)


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Return a picture [3, H, W] in 0..1 after a round trip through JPEG."""
    buffer = io.BytesIO()
    pixels = (image.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    back = np.asarray(Image.open(buffer), np.float32) / 255
    return np.ascontiguousarray(back.transpose(2, 0, 1))
