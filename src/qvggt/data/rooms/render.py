"""Render images and depth of rooms: a ray per pixel, traced and shaded in chunks that fit the CPU cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from qvggt.data.rooms.pack import PackedRooms
from qvggt.data.rooms.shade import Triple, locate, shade
from qvggt.data.rooms.trace import floor_light, ray_cones, trace
from qvggt.geometry import invert_camera

_CPU_RAYS = 2**15  # small enough for one thread, so that the number of threads changes no digit
_FLOOR_ROOMS = 14  # lit together
_LANES = 32  # numbers that one step of a vector loop takes at most; the rest of a row would be rounded otherwise
_GPU_RAYS = 2**21


def camera_rays(cam_from_world: Tensor, intrinsics: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Triple]:
    """Return camera centers [B, S, 3] and directions, three times [B, S, N], of pixels u, v [N] (integer centers).

    Directions have length one along the optical axis, so a distance along them is a depth.
    """
    world_from_cam = invert_camera(cam_from_world)
    focal_x, focal_y = intrinsics[..., 0, 0, None], intrinsics[..., 1, 1, None]
    x = (u - intrinsics[..., 0, 2, None]) / focal_x
    y = (v - intrinsics[..., 1, 2, None]) / focal_y
    r = world_from_cam[..., None]
    rays = tuple(r[..., i, 0, :] * x + r[..., i, 1, :] * y + r[..., i, 2, :] for i in range(3))
    return world_from_cam[..., 3], cast(Triple, rays)


def hit_pixels(rooms: PackedRooms, cam_from_world: Tensor, intrinsics: Tensor, u: Tensor, v: Tensor):
    """Return hits and rays of pixels u, v [N] of cameras [B, S, 3, 4] in their rooms."""
    origin, rays = camera_rays(cam_from_world, intrinsics, u, v)
    cones = ray_cones(origin, rays)
    distance, body = trace(rooms, cones, rays)
    return locate(rooms, cones, rays, distance, body=body), rays


def render(
    rooms: PackedRooms,
    cameras: tuple[Tensor, Tensor],
    image_hw: tuple[int, int],
    samples: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return images [B, S, 3, H, W] in 0..1 and depth [B, S, H, W] in meters.

    Args:
        rooms: B rooms.
        cameras: ``cam_from_world`` [B, S, 3, 4] in room coordinates and intrinsics [B, S, 3, 3] in pixels, float32.
        image_hw: height and width in pixels.
        samples: samples * samples rays are averaged for a pixel's color; depth is that of the pixel's own ray.
    """
    batch, frames = cameras[0].shape[:2]
    device = cameras[0].device
    pixels = image_hw[0] * image_hw[1]
    images = torch.empty(batch, frames, 3, pixels, dtype=torch.float32, device=device)
    depth = torch.empty(batch, frames, pixels, dtype=torch.float32, device=device)
    most = _CPU_RAYS if device.type == "cpu" else _GPU_RAYS
    rooms_at_once = max(1, most // (frames * (pixels + _LANES)))
    pixels_at_once = max(1, most // (min(batch, rooms_at_once) * frames) // _LANES) * _LANES
    groups = range(0, batch, _FLOOR_ROOMS)
    floor = torch.cat([floor_light(rooms.part(slice(first, first + _FLOOR_ROOMS))) for first in groups])
    for first in range(0, batch, rooms_at_once):
        part = slice(first, first + rooms_at_once)
        views = View(rooms.part(part), floor[part], cameras[0][part], cameras[1][part])
        for start in range(0, pixels, pixels_at_once):
            some = slice(start, min(pixels, start + pixels_at_once))
            u, v = _pixel_grid(some, image_hw[1], device)
            color, near = _render_pixels(views, u, v, samples)
            count = some.stop - some.start
            images[part, :, :, some] = color[..., :count].permute(1, 2, 0, 3)
            depth[part, :, some] = near[..., :count]
    return images.unflatten(-1, image_hw), depth.unflatten(-1, image_hw)


@dataclass(frozen=True)
class View:
    """Some rooms with the light of their floors and the cameras in them."""

    rooms: PackedRooms
    floor: Tensor
    cam_from_world: Tensor
    intrinsics: Tensor


def _pixel_grid(some: slice, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return columns and rows of pixels, the last one repeated up to a multiple of ``_LANES``."""
    padded = -(-(some.stop - some.start) // _LANES) * _LANES
    index = torch.arange(some.start, some.start + padded, device=device).clamp_(max=some.stop - 1)
    return (index % width).to(torch.float32), (index // width).to(torch.float32)


def _render_pixels(view: View, u: Tensor, v: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return colors [3, B, S, N] and depth [B, S, N] of pixels u, v [N]."""
    pixel_rad = 1.0 / (view.intrinsics[..., 0, 0, None] * samples)
    hits, rays = hit_pixels(view.rooms, view.cam_from_world, view.intrinsics, u, v=v)
    if samples == 1:
        return shade(view.rooms, view.floor, hits, rays, pixel_rad=pixel_rad), hits.distance
    depth, color = hits.distance, hits.distance.new_zeros(())
    for index in range(samples * samples):
        shift_u = (index % samples + 0.5) / samples - 0.5
        shift_v = (index // samples + 0.5) / samples - 0.5
        hits, rays = hit_pixels(view.rooms, view.cam_from_world, view.intrinsics, u + shift_u, v=v + shift_v)
        color = color + shade(view.rooms, view.floor, hits, rays, pixel_rad=pixel_rad) / (samples * samples)
    return color, depth
