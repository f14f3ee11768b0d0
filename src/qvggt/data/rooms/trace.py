"""Trace rays to the nearest body of a room, without branches.

All arithmetic is in operations that IEEE 754 rounds exactly, so that a ray's result does not depend on the batch.
Comparisons are clamps of differences, which are several times faster than boolean masks on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.data.rooms.pack import PackedRooms

FLOOR_CELLS = 24
"""Points of the floor along each wall where its light is computed."""

_SPOTS = ((-0.6, -0.5), (0.55, -0.6), (0.1, 0.65))  # of the ceiling, in shares of the room
_FAR = 1e6
_STEEP = 1e12
_MARGIN_RAD = 0.01
_BLOCK = 2**16  # elements per chunk, so that the tensors in use stay in the CPU cache
_TINY = 1e-20  # the square root of zero is several times slower
_ID_BITS = 63  # the lowest six bits of a distance carry the body's index: at most 8e-6 of the distance


def trace(rooms: PackedRooms, cones: Cones, rays: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return distance and body of the first hit of every ray.

    Args:
        rooms: B rooms.
        cones: ``ray_cones`` of the rays, whose apexes lie inside the room and outside its furniture.
        rays: x, y and z of the directions, each [B, S, N], of any length.

    Returns:
        Distance [B, S, N] in lengths of the direction, and index [B, S, N] (int64) of the body, 0 for the room.
    """
    best = _room_exit(rooms, cones.apex, rays).view(torch.int32).bitwise_and_(~_ID_BITS)
    if rooms.bodies.shape[1] == 1:
        return best.view(torch.float32), torch.zeros_like(best, dtype=torch.int64)
    found = _nearest_body(rooms, cones.apex, rays, _visible_bodies(rooms, cones))
    nearest = torch.minimum(best.view(torch.float32), found.view(best.shape)).view(torch.int32)
    body = nearest.bitwise_and(_ID_BITS).to(torch.int64)
    return nearest.bitwise_and_(~_ID_BITS).view(torch.float32), body


@dataclass(frozen=True)
class Cones:
    """The narrowest cones that hold the rays of each camera.

    Attributes:
        apex: [B, S, 3].
        axis: [B, S, 3] unit vectors.
        angle_rad: [B, S, 1] between the axis and the rays farthest from it.
    """

    apex: Tensor
    axis: Tensor
    angle_rad: Tensor

    def meet(self, center: Tensor, radius: Tensor) -> Tensor:
        """Return [B, S, K] whether cones come near to spheres with centers [B, K, 3] and radii [B, K].

        No ray hits anything inside a sphere that is not met, so leaving it out changes no result.
        """
        toward = center[:, None] - self.apex[:, :, None]  # [B, S, K, 3]
        distance = toward.norm(dim=-1)
        turn = torch.acos(((toward * self.axis[:, :, None]).sum(-1) / distance).clamp(-1.0, 1.0))
        spread = torch.asin((radius[:, None] / distance).clamp(max=1.0))
        return (turn <= self.angle_rad + spread + _MARGIN_RAD) | (distance <= radius[:, None])


def ray_cones(origin: Tensor, rays: tuple[Tensor, Tensor, Tensor]) -> Cones:
    """Return the cones around rays [B, S, N] (three of them) from origins [B, S, 3]."""
    axis = torch.stack([ray.mean(-1) for ray in rays], -1)
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    inverse_length = (rays[0] * rays[0]).add_(rays[1] * rays[1]).add_(rays[2] * rays[2]).rsqrt_()
    along = (rays[0] * axis[..., :1]).add_(rays[1] * axis[..., 1:2]).add_(rays[2] * axis[..., 2:])
    widest = torch.acos(along.mul_(inverse_length).amin(-1, keepdim=True).clamp(-1.0, 1.0))
    return Cones(origin, axis, widest)


def _visible_bodies(rooms: PackedRooms, cones: Cones) -> Tensor:
    """Return [B, S, K - 1] whether a camera may see a body."""
    bodies = rooms.bodies[:, 1:]
    there = bodies[..., 2] > -1.0  # padding is far below the floor
    return cones.meet(bodies[..., :3], bodies[..., 3:6].norm(dim=-1)) & there[:, None]


def _nearest_body(rooms: PackedRooms, origin: Tensor, rays: tuple[Tensor, Tensor, Tensor], visible: Tensor) -> Tensor:
    """Return [B * S, N] the distance to the nearest visible body, its index in the lowest bits; ``_FAR`` for none."""
    batch, frames, rays_each = rays[0].shape
    flat_rays = [ray.reshape(batch * frames, rays_each) for ray in rays]
    boxes, cylinders, _ = rooms.counts
    visible = visible.flatten(0, 1)  # [B * S, K - 1]
    starts = (0, boxes, boxes + cylinders, visible.shape[1])
    frame, body = torch.cat([_pairs(visible, *starts[kind : kind + 2]) for kind in range(3)]).unbind(1)
    sizes = [int(count) for count in visible.sum(0).tolist()]
    ends = [sum(sizes[:end]) for end in starts]
    table = rooms.bodies[frame // frames, body + 1, :, None]  # [P, 9, 1]
    start = origin.reshape(-1, 3)[frame][..., None] - table[:, :3]  # [P, 3, 1]
    code = (body + 1).to(torch.int32)[:, None]
    hits = torch.empty(len(frame) + 1, rays_each, dtype=torch.float32, device=origin.device)
    hits[-1] = _FAR
    at_once = max(1, _BLOCK // rays_each) if origin.device.type == "cpu" else len(frame) + 1
    for kind, hit in enumerate((_hit_boxes, _hit_cylinders, _hit_ellipsoids)):
        for first in range(ends[kind], ends[kind + 1], at_once):
            some = slice(first, min(first + at_once, ends[kind + 1]))
            own = [ray.index_select(0, frame[some]) for ray in flat_rays]
            hit(table[some], start[some], own, hits[some])
            hits[some].view(torch.int32).bitwise_and_(~_ID_BITS).bitwise_or_(code[some])
    # Slots of the hits of each frame, then as many of the last, a miss, as fill up the row.
    slots = torch.full_like(visible, len(frame), dtype=torch.int64)
    slots[frame, body] = torch.arange(len(frame), device=frame.device)
    slots = slots.sort(1).values[:, : max(1, int(visible.sum(1).max()))]
    return hits.index_select(0, slots.flatten()).view(*slots.shape, rays_each).amin(1)


def _pairs(visible: Tensor, first: int, end: int) -> Tensor:
    """Return [P, 2] frame and index of the visible bodies ``first .. end - 1``."""
    return visible[:, first:end].nonzero() + torch.tensor((0, first), device=visible.device)


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


def _hit_boxes(bodies: Tensor, start: Tensor, rays: list[Tensor], out: Tensor) -> None:
    """Write distances [P, N] to boxes [P, 9, 1] along rays that start at [P, 3, 1] in the boxes' axes."""
    dx, dy, dz = rays
    cos, sin = bodies[:, 6], bodies[:, 7]
    local_x = cos * start[:, 0] + sin * start[:, 1]
    local_y = cos * start[:, 1] - sin * start[:, 0]
    ray_x = (cos * dx).add_(sin * dy).add_(1e-9).reciprocal_()
    ray_y = dy.mul_(cos).sub_(dx.mul_(sin)).add_(1e-9).reciprocal_()
    up = dz.add_(1e-9).reciprocal_()
    enter, leave = _slab(local_x, ray_x, bodies[:, 3])
    for place, inverse, reach in ((local_y, ray_y, bodies[:, 4]), (start[:, 2], up, bodies[:, 5])):
        low, high = _slab(place, inverse, reach)
        torch.maximum(enter, low, out=enter)
        torch.minimum(leave, high, out=leave)
    _accept(enter, leave, out)


def _hit_cylinders(bodies: Tensor, start: Tensor, rays: list[Tensor], out: Tensor) -> None:
    dx, dy, dz = rays
    middle = (start[:, 0] * dx).add_(start[:, 1] * dy)
    flat = dx.square_().add_(dy.square_()).add_(1e-9)
    beyond = start[:, 0] * start[:, 0] + start[:, 1] * start[:, 1] - bodies[:, 3] * bodies[:, 3]
    inverse = flat.reciprocal()
    root = (middle * middle).sub_(flat.mul_(beyond)).clamp_(min=_TINY).sqrt_().mul_(inverse)
    middle.mul_(inverse).neg_()
    enter, leave = middle - root, middle.add_(root)
    low, high = _slab(start[:, 2], dz.add_(1e-9).reciprocal_(), bodies[:, 5])
    _accept(torch.maximum(enter, low, out=enter), torch.minimum(leave, high, out=leave), out)


def _hit_ellipsoids(bodies: Tensor, start: Tensor, rays: list[Tensor], out: Tensor) -> None:
    dx, dy, dz = rays
    radius = bodies[:, 3]
    squeeze = radius / bodies[:, 5].clamp(min=1e-6)
    height, ray_z = squeeze * start[:, 2], dz.mul_(squeeze)
    middle = (start[:, 0] * dx).add_(start[:, 1] * dy).add_(height * ray_z)
    flat = dx.square_().add_(dy.square_()).add_(1e-9)
    inverse = ray_z.square_().add_(flat)
    beyond = start[:, 0] * start[:, 0] + start[:, 1] * start[:, 1] + height * height - radius * radius
    root = (middle * middle).sub_(inverse * beyond).clamp_(min=_TINY).sqrt_()
    inverse.reciprocal_()
    enter, leave = (-middle).sub_(root).mul_(inverse), root.sub_(middle).mul_(inverse)
    _accept(enter, leave, out)


def _slab(place: Tensor, inverse: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays enter and leave the layer ``-reach..reach`` of one coordinate."""
    middle = place * inverse
    width = inverse.abs().mul(reach)
    enter = (middle + width).neg_()
    return enter, width.sub_(middle)


def _accept(enter: Tensor, leave: Tensor, out: Tensor) -> None:
    """Write ``enter`` where it is a hit in front of the camera, ``_FAR`` elsewhere; overwrites ``leave``."""
    torch.sub(enter, leave, out=leave).add_(1e-6)
    miss = torch.maximum(leave, -enter, out=leave).clamp_(min=0.0)
    torch.add(miss.mul_(_STEEP), enter, out=out).clamp_(max=_FAR)


def floor_light(rooms: PackedRooms) -> Tensor:
    """Return [B, G, G] in 0..1: the share of a few points below the ceiling that each point of the floor sees.

    Rows run along y and columns along x, from wall to wall.
    """
    batch, device = len(rooms.half), rooms.half.device
    spots = torch.tensor(_SPOTS, dtype=torch.float32, device=device)
    lamp = rooms.lights[:, :1, :3]
    spread = torch.cat(
        (rooms.half[:, None, :2] * spots, (2.0 * rooms.half[:, 2] - 0.1)[:, None, None].expand(-1, len(spots), 1)), -1
    )
    origin = torch.cat((lamp, spread), 1)  # [B, S, 3]
    steps = (torch.arange(FLOOR_CELLS, dtype=torch.float32, device=device) + 0.5) * (2.0 / FLOOR_CELLS) - 1.0
    x = (rooms.half[:, :1] * steps)[:, None, :].expand(batch, FLOOR_CELLS, -1).reshape(batch, 1, -1)
    y = (rooms.half[:, 1:2] * steps)[:, :, None].expand(batch, -1, FLOOR_CELLS).reshape(batch, 1, -1)
    rays = (x - origin[..., 0, None], y - origin[..., 1, None], (-origin[..., 2, None]).expand(-1, -1, x.shape[-1]))
    distance, _ = trace(rooms, ray_cones(origin, rays), rays)
    seen = ((distance - 0.97) * 1e6).clamp_(0.0, 1.0)
    return seen.mean(1).view(batch, FLOOR_CELLS, FLOOR_CELLS)
