"""Pictures and depth of rooms: a ray for every pixel, traced, located and shaded in chunks that fit the cache."""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.data.room_pack import PackedRooms
from qvggt.data.room_shade import Triple, locate, shade
from qvggt.data.room_trace import trace
from qvggt.geometry import invert_camera

_CPU_RAYS = 2**15
_GPU_RAYS = 2**21


def camera_rays(cam_from_world: Tensor, intrinsics: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Triple]:
    """Return camera centres [B, S, 3] and directions, three times [B, S, N], of pixels u, v [N] (integer centres).

    Directions have length one along the optical axis, so a distance along them is a depth.
    """
    world_from_cam = invert_camera(cam_from_world)
    focal_x, focal_y = intrinsics[..., 0, 0, None], intrinsics[..., 1, 1, None]
    x = (u - intrinsics[..., 0, 2, None]) / focal_x
    y = (v - intrinsics[..., 1, 2, None]) / focal_y
    r = world_from_cam[..., None]
    rays = tuple(r[..., i, 0, :] * x + r[..., i, 1, :] * y + r[..., i, 2, :] for i in range(3))
    return world_from_cam[..., 3], rays  # pyright: ignore[reportReturnType]


def hit_pixels(rooms: PackedRooms, cam_from_world: Tensor, intrinsics: Tensor, u: Tensor, v: Tensor):
    """Return hits and rays of pixels u, v [N] of cameras [B, S, 3, 4] in their rooms."""
    origin, rays = camera_rays(cam_from_world, intrinsics, u, v)
    distance, body = trace(rooms, origin, rays)
    return locate(rooms, origin, rays, distance, body), rays


def render(
    rooms: PackedRooms,
    floor: Tensor,
    cameras: tuple[Tensor, Tensor],
    image_hw: tuple[int, int],
    samples: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return images [B, S, 3, H, W] in 0..1 and depth [B, S, H, W] in metres.

    Args:
        rooms: B rooms.
        floor: [B, G, G], their ``floor_light``.
        cameras: ``cam_from_world`` [B, S, 3, 4] in room coordinates and intrinsics [B, S, 3, 3] in pixels, float32.
        image_hw: height and width in pixels.
        samples: samples * samples rays are averaged for a pixel's colour; depth is that of the pixel's own ray.
    """
    height, width = image_hw
    cam_from_world, intrinsics = cameras
    batch, frames = cam_from_world.shape[:2]
    device = cam_from_world.device
    images = torch.empty(batch, frames, 3, height, width, device=device)
    depth = torch.empty(batch, frames, height, width, device=device)
    most = _CPU_RAYS if device.type == "cpu" else _GPU_RAYS
    rows_at_once = max(1, min(height, most // (batch * frames * width)))
    columns = torch.arange(width, dtype=torch.float32, device=device)
    pixel_rad = 1.0 / (intrinsics[..., 0, 0, None] * samples)
    for top in range(0, height, rows_at_once):
        rows = torch.arange(top, min(height, top + rows_at_once), dtype=torch.float32, device=device)
        v, u = (grid.flatten() for grid in torch.meshgrid(rows, columns, indexing="ij"))
        hits, rays = hit_pixels(rooms, cam_from_world, intrinsics, u, v)
        shape = (batch, frames, len(rows), width)
        depth[:, :, top : top + len(rows)] = hits.distance.view(shape)
        color = shade(rooms, floor, hits, rays, pixel_rad) if samples == 1 else None
        for index in range(samples * samples if color is None else 0):
            shift_u = (index % samples + 0.5) / samples - 0.5
            shift_v = (index // samples + 0.5) / samples - 0.5
            hits, rays = hit_pixels(rooms, cam_from_world, intrinsics, u + shift_u, v + shift_v)
            sample = shade(rooms, floor, hits, rays, pixel_rad) / (samples * samples)
            color = sample if color is None else color.add_(sample)
        assert color is not None
        images[..., top : top + len(rows), :] = color.view(3, *shape).permute(1, 2, 0, 3, 4)
    return images, depth
