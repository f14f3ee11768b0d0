"""Where rays meet a room: the nearest of many bodies, without branches.

The arithmetic is single operations that IEEE 754 rounds exactly, so a ray's answer does not depend on its neighbours.
Comparisons are written as clamps of differences, which are several times faster than boolean masks on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.data.room_pack import PackedRooms

FLOOR_CELLS = 24
"""Points of the floor along each wall where its light is computed."""

_SPOTS = ((-0.6, -0.5), (0.55, -0.6), (0.1, 0.65))  # of the ceiling, in shares of the room
_FAR = 1e6
_STEEP = 1e12
_ID_BITS = 63  # the lowest six bits of a distance carry the body's index: at most 8e-6 of the distance


def trace(rooms: PackedRooms, origin: Tensor, rays: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return distance and body of the first hit of every ray.

    Args:
        rooms: B rooms.
        origin: [B, S, 3] camera centres, inside the room and outside its furniture.
        rays: x, y and z of the directions, each [B, S, N], of any length.

    Returns:
        Distance [B, S, N] in lengths of the direction, and index [B, S, N] (int64) of the body, 0 for the room.
    """
    best = _room_exit(rooms, origin, rays).view(torch.int32).bitwise_and(~_ID_BITS)
    distances = _body_hits(rooms, origin, rays)
    if distances is None:
        return best.view(torch.float32), torch.zeros_like(best, dtype=torch.int64)
    code = torch.arange(1, distances.shape[1] + 1, dtype=torch.int32, device=origin.device)[None, :, None, None]
    packed = distances.view(torch.int32).bitwise_and_(~_ID_BITS).bitwise_or_(code)
    nearest = torch.minimum(best.view(torch.float32), packed.view(torch.float32).amin(1)).view(torch.int32)
    body = nearest.bitwise_and(_ID_BITS).to(torch.int64)
    return nearest.bitwise_and(~_ID_BITS).view(torch.float32), body


def _room_exit(rooms: PackedRooms, origin: Tensor, rays: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    best = None
    for axis, ray in enumerate(rays):
        reach = rooms.half[:, axis, None, None]
        start = origin[..., axis, None] - rooms.bodies[:, 0, axis, None, None]
        inverse = (ray + 1e-9).reciprocal_()
        leave = reach * inverse.abs() - start * inverse
        best = leave if best is None else torch.minimum(best, leave)
    assert best is not None
    return best


def _body_hits(rooms: PackedRooms, origin: Tensor, rays: tuple[Tensor, Tensor, Tensor]) -> Tensor | None:
    """Return distances [B, K - 1, S, N] to the bodies, ``_FAR`` where a ray misses one."""
    boxes, cylinders, ellipsoids = rooms.counts
    bodies = rooms.bodies[:, 1:, None, None, :]  # [B, K - 1, 1, 1, 9]
    start = origin[:, None, :, None, :] - bodies[..., :3]  # [B, K - 1, S, 1, 3]
    dx, dy, dz = (ray[:, None] for ray in rays)  # [B, 1, S, N]
    up = (dz + 1e-9).reciprocal_()
    flat = dx * dx + dy * dy + 1e-9
    parts = []
    if boxes:
        parts.append(_hit_boxes(bodies[:, :boxes], start[:, :boxes], dx, dy, up))
    if cylinders:
        part = slice(boxes, boxes + cylinders)
        parts.append(_hit_cylinders(bodies[:, part], start[:, part], (dx, dy, up), flat))
    if ellipsoids:
        part = slice(boxes + cylinders, None)
        parts.append(_hit_ellipsoids(bodies[:, part], start[:, part], (dx, dy, dz), flat))
    return torch.cat(parts, 1) if parts else None


def _hit_boxes(bodies: Tensor, start: Tensor, dx: Tensor, dy: Tensor, up: Tensor) -> Tensor:
    cos, sin = bodies[..., 6], bodies[..., 7]
    local_x = cos * start[..., 0] + sin * start[..., 1]
    local_y = cos * start[..., 1] - sin * start[..., 0]
    ray_x = (cos * dx).add_(sin * dy).add_(1e-9).reciprocal_()
    ray_y = (cos * dy).sub_(sin * dx).add_(1e-9).reciprocal_()
    enter, leave = _slab(local_x, ray_x, bodies[..., 3])
    for place, inverse, reach in ((local_y, ray_y, bodies[..., 4]), (start[..., 2], up, bodies[..., 5])):
        low, high = _slab(place, inverse, reach)
        torch.maximum(enter, low, out=enter)
        torch.minimum(leave, high, out=leave)
    return _accept(enter, leave)


def _hit_cylinders(bodies: Tensor, start: Tensor, rays: tuple[Tensor, Tensor, Tensor], flat: Tensor) -> Tensor:
    dx, dy, up = rays
    inverse = flat.reciprocal()
    middle = (start[..., 0] * dx).add_(start[..., 1] * dy)
    beyond = start[..., 0] * start[..., 0] + start[..., 1] * start[..., 1] - bodies[..., 3] * bodies[..., 3]
    root = (middle * middle).sub_(flat * beyond).clamp_(min=0.0).sqrt_().mul_(inverse)
    middle.mul_(inverse).neg_()
    enter, leave = middle - root, middle.add_(root)
    low, high = _slab(start[..., 2], up, bodies[..., 5])
    return _accept(torch.maximum(enter, low, out=enter), torch.minimum(leave, high, out=leave))


def _hit_ellipsoids(bodies: Tensor, start: Tensor, rays: tuple[Tensor, Tensor, Tensor], flat: Tensor) -> Tensor:
    dx, dy, dz = rays
    radius = bodies[..., 3]
    squeeze = radius / bodies[..., 5].clamp(min=1e-6)
    height, ray_z = squeeze * start[..., 2], squeeze * dz
    inverse = (ray_z * ray_z).add_(flat)
    middle = (start[..., 0] * dx).add_(start[..., 1] * dy).add_(height * ray_z)
    beyond = start[..., 0] * start[..., 0] + start[..., 1] * start[..., 1] + height * height - radius * radius
    root = (middle * middle).sub_(inverse * beyond).clamp_(min=0.0).sqrt_()
    inverse.reciprocal_()
    enter, leave = (-middle).sub_(root).mul_(inverse), root.sub_(middle).mul_(inverse)
    return _accept(enter, leave)


def _slab(place: Tensor, inverse: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays enter and leave the layer ``-reach..reach`` of one coordinate."""
    middle = place * inverse
    width = inverse.abs().mul(reach)
    enter = (middle + width).neg_()
    return enter, width.sub_(middle)


def _accept(enter: Tensor, leave: Tensor) -> Tensor:
    """Return ``enter`` where it is a hit in front of the camera, ``_FAR`` elsewhere; overwrites ``leave``."""
    miss = torch.maximum(torch.sub(enter, leave, out=leave).add_(1e-6), -enter).clamp_(min=0.0)
    return miss.mul_(_STEEP).add_(enter).clamp_(max=_FAR)


def floor_light(rooms: PackedRooms) -> Tensor:
    """Return [B, G, G] in 0..1: the share of a few points below the ceiling that each point of the floor sees.

    Rows run along y and columns along x, from wall to wall.
    """
    batch, device = len(rooms.half), rooms.half.device
    spots = torch.tensor(_SPOTS, device=device)
    lamp = rooms.lights[:, :1, :3]
    spread = torch.cat(
        (rooms.half[:, None, :2] * spots, (2.0 * rooms.half[:, 2] - 0.1)[:, None, None].expand(-1, len(spots), 1)), -1
    )
    origin = torch.cat((lamp, spread), 1)  # [B, S, 3]
    steps = (torch.arange(FLOOR_CELLS, device=device) + 0.5) * (2.0 / FLOOR_CELLS) - 1.0
    x = (rooms.half[:, :1] * steps)[:, None, :].expand(batch, FLOOR_CELLS, -1).reshape(batch, 1, -1)
    y = (rooms.half[:, 1:2] * steps)[:, :, None].expand(batch, -1, FLOOR_CELLS).reshape(batch, 1, -1)
    rays = (x - origin[..., 0, None], y - origin[..., 1, None], (-origin[..., 2, None]).expand(-1, -1, x.shape[-1]))
    distance, _ = trace(rooms, origin, rays)
    seen = ((distance - 0.97) * 1e6).clamp_(0.0, 1.0)
    return seen.mean(1).view(batch, FLOOR_CELLS, FLOOR_CELLS)
