"""Patterns of procedural rooms, baked once from hashed integers into one picture with all its smaller versions.

Every page is a torus of PAGE_PX texels, larger than any surface that uses it, so nothing repeats within a room. The
three channels are weights in 0..1: channel 0 blends the first color of a surface with its second, channel 1 is the
brightness of fine detail, channel 2 blends in the accent color.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

PAGES = ("plaster", "clouds", "planks", "grain", "tiles", "bricks", "stripes", "patches", "marble", "collage")
"""Names of the pages, in order."""

PAGE_PX = 512
"""Side of a page in texels."""

LEVELS = 8
"""Versions of every page, each half the size of the one before."""


@dataclass(frozen=True)
class Atlas:
    """All pages and levels in one picture; every page has a gutter of one texel, so that it wraps.

    Attributes:
        picture: [1, 3, rows, PAGE_PX + 2] float32 in 0..1.
        level_rows: [LEVELS] float32, the row where a level's first page starts, gutter included.
    """

    picture: Tensor
    level_rows: Tensor


def hash_unit(x: np.ndarray, y: np.ndarray, salt: int) -> np.ndarray:
    """Return hashed numbers in 0..1 of integer coordinates: exact uint32 arithmetic, the same on every platform."""
    h = np.asarray(x).astype(np.uint32) * np.uint32(0x9E3779B1)
    h = h ^ (np.asarray(y).astype(np.uint32) * np.uint32(0x85EBCA77)) ^ np.uint32(salt * 0xC2B2AE3D & 0xFFFFFFFF)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    h = (h ^ (h >> np.uint32(12))) * np.uint32(0x297A2D39)
    h = h ^ (h >> np.uint32(15))
    return (h >> np.uint32(8)).astype(np.float32) / np.float32(2**24)


def value_noise(cells_x: int, cells_y: int, salt: int) -> np.ndarray:
    """Return smooth noise [PAGE_PX, PAGE_PX] in 0..1 that wraps, with so many cells in x and y."""
    lattice = hash_unit(np.arange(cells_x)[None, :], np.arange(cells_y)[:, None], salt)
    rows = _interpolate(lattice, cells_y)
    return _interpolate(np.ascontiguousarray(rows.T), cells_x).T


def _interpolate(lattice: np.ndarray, cells: int) -> np.ndarray:
    place = (np.arange(PAGE_PX, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / PAGE_PX)
    low = np.floor(place).astype(np.int64)
    part = (place - low)[:, None]
    smooth = part * part * (3 - 2 * part)
    return lattice[low % cells] * (1 - smooth) + lattice[(low + 1) % cells] * smooth


def fractal_noise(cells: int, octaves: int, salt: int, stretch: int = 1) -> np.ndarray:
    """Return noise in 0..1 of several octaves, each twice as fine and about 0.6 as strong; ``stretch`` along x."""
    total, weight, gain = np.zeros((PAGE_PX, PAGE_PX), np.float32), 0.0, 1.0
    for octave in range(octaves):
        count = cells << octave
        total += np.float32(gain) * value_noise(max(1, count // stretch), count, salt + octave)
        weight, gain = weight + gain, gain * 0.6
    centerd = (total / np.float32(weight) - 0.5) * np.float32(1.6)  # averaging octaves narrows their spread
    return np.clip(centerd + 0.5, 0.0, 1.0)


def _plaster() -> tuple[np.ndarray, ...]:
    return fractal_noise(6, 4, 11), fractal_noise(24, 5, 12), 0.5 * _threshold(fractal_noise(10, 3, 13), 0.7, 0.2)


def _clouds() -> tuple[np.ndarray, ...]:
    return (
        _threshold(fractal_noise(12, 4, 21), 0.5, 0.25),
        fractal_noise(32, 4, 22),
        _threshold(fractal_noise(8, 3, 23), 0.68, 0.1),
    )


def _planks() -> tuple[np.ndarray, ...]:
    u, v = _grid()
    row = v // 8
    column = (u + (hash_unit(row, row * 0, 31) * 96).astype(np.int64)) // 96
    tone = hash_unit(column % 6, row, 32)
    grain = fractal_noise(64, 3, 33, stretch=12)
    edge = (v % 8 == 0) | ((u + (hash_unit(row, row * 0, 31) * 96).astype(np.int64)) % 96 == 0)
    return 0.65 * tone + 0.35 * grain, grain * (1 - 0.7 * edge), 0.6 * (hash_unit(column % 6, row, 34) > 0.85)


def _grain() -> tuple[np.ndarray, ...]:
    return fractal_noise(24, 4, 41, stretch=8), fractal_noise(96, 2, 42, stretch=16), 0.3 * fractal_noise(12, 3, 43)


def _tiles() -> tuple[np.ndarray, ...]:
    u, v = _grid()
    tone = hash_unit(u // 16, v // 16, 51)
    grout = (u % 16 == 0) | (v % 16 == 0)
    accent = hash_unit(u // 16, v // 16, 52) > 0.82
    return tone * (1 - grout) + 0.5 * grout, (0.4 + 0.4 * fractal_noise(16, 4, 53)) * (1 - 0.5 * grout), 0.8 * accent


def _bricks() -> tuple[np.ndarray, ...]:
    u, v = _grid()
    row = v // 6
    u = u + 8 * (row % 2)
    tone = hash_unit(u // 16 % 32, row, 61)
    mortar = (u % 16 == 0) | (v % 6 == 0)
    rough = 0.3 + 0.5 * fractal_noise(48, 3, 62)
    return tone * (1 - mortar), np.where(mortar, 0.85, rough), 0.5 * _threshold(fractal_noise(8, 3, 63), 0.62, 0.1)


def _stripes() -> tuple[np.ndarray, ...]:
    u, _ = _grid()
    cuts = np.cumsum(3 + (hash_unit(np.arange(128), np.zeros(128), 71) * 12).astype(np.int64))
    band = np.searchsorted(cuts, u)
    fade = fractal_noise(6, 4, 73)
    return hash_unit(band, band * 0, 72) * 0.7 + 0.3 * fade, fractal_noise(32, 4, 74), 0.7 * (band % 5 == 0) * fade


def _patches() -> tuple[np.ndarray, ...]:
    u, v = _grid()
    warp = (24 * fractal_noise(8, 3, 81)).astype(np.int64), (24 * fractal_noise(8, 3, 82)).astype(np.int64)
    x, y = (u + warp[0]) % PAGE_PX // 16, (v + warp[1]) % PAGE_PX // 16
    return hash_unit(x, y, 83), 0.3 + 0.5 * fractal_noise(32, 4, 84), 0.9 * (hash_unit(x, y, 85) > 0.75)


def _marble() -> tuple[np.ndarray, ...]:
    veins = np.abs((fractal_noise(8, 5, 91) * 7) % 2 - 1)
    return _threshold(veins, 0.5, 0.3), fractal_noise(16, 5, 92), _threshold(fractal_noise(6, 3, 93), 0.6, 0.08)


def _collage() -> tuple[np.ndarray, ...]:
    """Overlapping rectangles of many sizes, as in posters and rows of books."""
    mix, tone, accent = (np.full((PAGE_PX, PAGE_PX), 0.5, np.float32) for _ in range(3))
    count = 2600
    draw = hash_unit(np.arange(count)[None, :], np.arange(7)[:, None], 101)
    size = 4 + (60 * (1 - np.arange(count) / count) ** 3)
    for k in range(count):
        width, height = int(size[k] * (0.3 + draw[0, k])), int(size[k] * (0.3 + draw[1, k]))
        x = (int(draw[2, k] * PAGE_PX) + np.arange(width)) % PAGE_PX
        y = (int(draw[3, k] * PAGE_PX) + np.arange(height)) % PAGE_PX
        mix[y[:, None], x], tone[y[:, None], x] = draw[4, k], 0.2 + 0.8 * draw[5, k]
        accent[y[:, None], x] = draw[6, k] > 0.6
    return mix, 0.8 * tone + 0.2 * fractal_noise(32, 4, 102), accent


def _grid() -> tuple[np.ndarray, np.ndarray]:
    v, u = np.mgrid[0:PAGE_PX, 0:PAGE_PX]
    return u, v


def _threshold(values: np.ndarray, middle: float, width: float) -> np.ndarray:
    part = np.clip((values - np.float32(middle)) / np.float32(width) + np.float32(0.5), 0, 1)
    return part * part * (3 - 2 * part)


@lru_cache(maxsize=4)
def load_atlas(device: str = "cpu") -> Atlas:
    """Return the atlas on a device; it is baked in about a second and kept."""
    if device != "cpu":
        atlas = load_atlas("cpu")
        return Atlas(atlas.picture.to(device), atlas.level_rows.to(device))
    makers = (_plaster, _clouds, _planks, _grain, _tiles, _bricks, _stripes, _patches, _marble, _collage)
    level = np.stack([np.stack([np.broadcast_to(c, (PAGE_PX,) * 2) for c in make()]) for make in makers])
    level = level.astype(np.float32)
    rows, parts, at = [], [], 0
    for _ in range(LEVELS):
        padded = np.pad(level, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="wrap")
        strip = np.concatenate(list(padded), axis=1)
        rows.append(at)
        at += strip.shape[1]
        parts.append(np.pad(strip, ((0, 0), (0, 0), (0, PAGE_PX + 2 - strip.shape[2]))))
        level = 0.25 * (level[..., ::2, ::2] + level[..., 1::2, ::2] + level[..., ::2, 1::2] + level[..., 1::2, 1::2])
    picture = torch.from_numpy(np.concatenate(parts, axis=1))[None]
    return Atlas(picture, torch.tensor(rows, dtype=torch.float32, device=picture.device))
