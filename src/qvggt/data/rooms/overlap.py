"""Measure the co-visibility of cameras by tracing rays, and place cameras that overlap enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qvggt.data.rooms.pack import PackedRooms
from qvggt.data.rooms.paths import CLEARANCE_M, CameraPath, PathDrawer, clearance
from qvggt.data.rooms.render import camera_rays
from qvggt.data.rooms.scene import Room
from qvggt.data.rooms.trace import ray_cones, trace

GRID_HW = (12, 16)
"""Rays of a measurement."""

_TOLERANCE = 0.05
_ATTEMPTS = (1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0)


def measure_overlap(rooms: PackedRooms, cam_from_world: Tensor, intrinsics: Tensor, image_hw: tuple[int, int]):
    """Return co-visibility and depth of cameras in their rooms, on a grid of GRID_HW rays a picture.

    Args:
        rooms: B rooms.
        cam_from_world: [B, S, 3, 4].
        intrinsics: [B, S, 3, 3] in pixels of ``image_hw``.
        image_hw: height and width in pixels.

    Returns:
        Overlap [B, S, S]: the share of frame i's rays whose points lie in frame j's picture at the depth that j sees
        there, within 5 % of the range of the four rays around; and depth [B, S, h, w].
    """
    rows, columns = GRID_HW
    v = (torch.arange(rows, dtype=torch.float32, device=intrinsics.device) + 0.5) * (image_hw[0] / rows) - 0.5
    u = (torch.arange(columns, dtype=torch.float32, device=intrinsics.device) + 0.5) * (image_hw[1] / columns) - 0.5
    grid_v, grid_u = (g.flatten() for g in torch.meshgrid(v, u, indexing="ij"))
    origin, rays = camera_rays(cam_from_world, intrinsics, grid_u, grid_v)
    depth, _ = trace(rooms, ray_cones(origin, rays), rays)
    points = [origin[..., axis, None] + rays[axis] * depth for axis in range(3)]  # each [B, S, N]
    other = cam_from_world[:, None, :, :, :, None]  # [B, 1, S, 3, 4, 1]
    local = [
        sum(other[..., row, axis, :] * points[axis][:, :, None] for axis in range(3)) + other[..., row, 3, :]
        for row in range(3)
    ]  # each [B, S, S, N]
    ahead = local[2].clamp(min=0.05)
    focal_x, focal_y = intrinsics[:, None, :, 0, 0, None], intrinsics[:, None, :, 1, 1, None]
    x = local[0] / ahead * focal_x + intrinsics[:, None, :, 0, 2, None]
    y = local[1] / ahead * focal_y + intrinsics[:, None, :, 1, 2, None]
    inside = (x >= -0.5) & (x <= image_hw[1] - 0.5) & (y >= -0.5) & (y <= image_hw[0] - 0.5) & (local[2] > 0.05)
    column = ((x + 0.5) * (columns / image_hw[1]) - 0.5).floor().clamp(0, columns - 2)
    row = ((y + 0.5) * (rows / image_hw[0]) - 0.5).floor().clamp(0, rows - 2)
    near, far = _window_range(depth.view(*depth.shape[:2], rows, columns))
    index = (row * (columns - 1) + column).to(torch.int64)
    shape = index.shape
    near, far = (d.flatten(2)[:, None].expand(*shape[:3], -1).gather(3, index) for d in (near, far))
    seen = inside & (local[2] >= near * (1 - _TOLERANCE)) & (local[2] <= far * (1 + _TOLERANCE))
    return seen.to(torch.float32).mean(-1), depth.view(*depth.shape[:2], rows, columns)


def _window_range(depth: Tensor) -> tuple[Tensor, Tensor]:
    """Return least and greatest depth of every 2 x 2 window."""
    a, b, c, d = depth[..., :-1, :-1], depth[..., 1:, :-1], depth[..., :-1, 1:], depth[..., 1:, 1:]
    low = torch.minimum(torch.minimum(a, b), torch.minimum(c, d))
    return low, torch.maximum(torch.maximum(a, b), torch.maximum(c, d))


def connected(overlap: np.ndarray, least: float) -> np.ndarray:
    """Return [B] whether the pairs of frames with mutual overlap [B, S, S] of at least ``least`` connect all frames."""
    frames = overlap.shape[-1]
    reach = (np.minimum(overlap, overlap.swapaxes(-1, -2)) >= least) | np.eye(frames, dtype=bool)
    for _ in range(max(1, int(np.ceil(np.log2(max(2, frames)))))):
        reach = reach @ reach
    return np.asarray(reach.all((-1, -2)))


def place_cameras(
    rooms: Sequence[Room],
    packed: PackedRooms,
    drawers: Sequence[PathDrawer],
    image_hw: tuple[int, int],
    min_overlap: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cameras [B, S, 3, 4], intrinsics [B, S, 3, 3] (float64) and measured overlap [B, S, S].

    Paths that do not connect their frames, or come too near to walls or furniture, are drawn again with less and less
    motion; the last attempt has none.
    """
    height, width = image_hw
    results: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(rooms)
    focal = np.array([drawer.focal_per_width * width for drawer in drawers])
    lens = np.zeros((len(rooms), 3, 3))
    lens[:, 0, 0], lens[:, 1, 1], lens[:, 0, 2], lens[:, 1, 2], lens[:, 2, 2] = focal, focal, width / 2, height / 2, 1
    device = packed.half.device
    pending = list(range(len(rooms)))
    for factor in _ATTEMPTS:
        paths = [drawers[b].draw().shrink(factor) for b in pending]
        cameras = CameraPath.stack(paths).cam_from_world()
        lenses = np.repeat(lens[pending][:, None], cameras.shape[1], 1)
        some = packed if len(pending) == len(rooms) else packed.select(pending)
        poses, lens_rows = (torch.from_numpy(a).to(device, torch.float32) for a in (cameras, lenses))
        overlap, depth = (t.cpu().numpy() for t in measure_overlap(some, poses, lens_rows, image_hw))
        good = connected(overlap, min_overlap)
        good &= (np.median(depth, (-1, -2)) > 1.2).all(-1) & ((depth < 0.7).mean((-1, -2)) < 0.2).all(-1)
        clear = [clearance(rooms[b], path.center).min() >= CLEARANCE_M for b, path in zip(pending, paths, strict=True)]
        keep = (good & np.array(clear)) | (factor == 0.0)
        for k, b in enumerate(pending):
            if keep[k]:
                results[b] = (cameras[k], overlap[k])
        pending = [b for k, b in enumerate(pending) if not keep[k]]
        if not pending:
            break
    done = [result for result in results if result is not None]
    cameras = np.stack([camera for camera, _ in done])
    return cameras, np.repeat(lens[:, None], cameras.shape[1], 1), np.stack([overlap for _, overlap in done])
