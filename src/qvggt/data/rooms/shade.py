"""Shade the points that rays hit: panels in walls, baked textures, lamps and ambient occlusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.data.rooms.pack import PackedRooms
from qvggt.data.rooms.textures import LEVELS, PAGE_PX, load_atlas
from qvggt.data.rooms.trace import Cones

Triple = tuple[Tensor, Tensor, Tensor]

_GRAIN = 6.7  # times finer than the texels


@dataclass(frozen=True)
class Hits:
    """What rays hit; every tensor is [B, S, N].

    Attributes:
        distance: to the point, in lengths of the ray.
        point: x, y, z in the room.
        normal: x, y, z of the unit normal, toward the camera.
        surface: row in ``PackedRooms.surfaces`` (int64).
        u: first coordinate in the surface, in meters.
        v: second coordinate.
    """

    distance: Tensor
    point: Triple
    normal: Triple
    surface: Tensor
    u: Tensor
    v: Tensor


def _step(values: Tensor) -> Tensor:
    """Return 1 where values are positive, else 0; overwrites them."""
    return values.mul_(1e12).clamp_(0.0, 1.0)


def gather_rows(table: Tensor, index: Tensor) -> Tensor:
    """Return [C, B, S, N]: rows of a table [B, K, C] picked by indices [B, S, N]."""
    batch, count, width = table.shape
    flat = index + (torch.arange(batch, device=index.device) * count)[:, None, None]
    return table.reshape(batch * count, width).t().contiguous().index_select(1, flat.flatten()).view(-1, *index.shape)


def locate(rooms: PackedRooms, cones: Cones, rays: Triple, distance: Tensor, body: Tensor) -> Hits:
    """Return point, normal and surface of hits, after stepping into recessed doors and windows."""
    cx, cy, cz, hx, hy, hz, cos, sin, kind = gather_rows(rooms.bodies, body)
    point = [cones.apex[..., axis, None] + rays[axis] * distance for axis in range(3)]
    px, py, pz = point[0] - cx, point[1] - cy, point[2] - cz
    px, py = cos * px + sin * py, cos * py - sin * px
    qx, qy, qz = px / hx, py / hy, pz / hz
    xx, yy, zz = qx * qx, qy * qy, qz * qz
    is_cylinder = 1.0 - (kind - 1.0).abs().clamp_(max=1.0)
    is_ellipsoid = (kind - 1.0).clamp_(min=0.0)
    side = torch.lerp(torch.maximum(xx, yy), xx + yy, is_cylinder)
    on_z = _step(zz - side)
    on_x = _step(xx - yy) * (1.0 - on_z)
    on_y = 1.0 - on_x - on_z
    curved = torch.maximum(is_ellipsoid, is_cylinder * (1.0 - on_z))
    normal = (
        torch.lerp(on_x, qx / hx, curved),
        torch.lerp(on_y, qy / hy, curved),
        torch.lerp(on_z, qz / hz * is_ellipsoid, curved),
    )
    u, v = torch.lerp(px, py, on_x), torch.lerp(pz, py, on_z)
    high = _step(on_x * px + on_y * py + on_z * pz)
    face = 2.0 * on_y + 4.0 * on_z + 1.0 - high
    is_room = 1.0 - body.to(torch.float32).clamp_(max=1.0)
    surface = torch.lerp(body.to(torch.float32) + 5.0, face, is_room)
    hits = Hits(distance, (point[0], point[1], point[2]), normal, surface, u=u, v=v)
    if rooms.panels.shape[1] > 1:
        wall = torch.lerp(torch.full_like(face, -9.0), face, is_room)
        hits = _enter_panels(rooms, hits, rays, _choose_panels(rooms, cones, hits, wall))
    nx, ny, nz = hits.normal
    nx, ny = cos * nx - sin * ny, sin * nx + cos * ny
    length = (nx * nx + ny * ny + nz * nz).rsqrt_()
    toward = 1.0 - 2.0 * _step(nx * rays[0] + ny * rays[1] + nz * rays[2])
    length = length * toward
    # Opposite faces and different sides of a body use different places of the page.
    shift = 7.3 * face * (1.0 - is_room)
    normal = (nx * length, ny * length, nz * length)
    return Hits(hits.distance, hits.point, normal, hits.surface.to(torch.int64), u=hits.u + shift, v=hits.v)


def _choose_panels(rooms: PackedRooms, cones: Cones, hits: Hits, face: Tensor) -> Tensor:
    """Return [B, S, N] the number of the panel that is hit, 0 for none; ``face`` is -9 away from walls."""
    tables = rooms.panels[:, None, 1:]
    # Each camera tests the panels that it may see, those before the others.
    seen = cones.meet(rooms.panel_centers, tables[:, 0, :, 3:5].norm(dim=-1)) & (tables[..., 0] >= 0.0)
    number = torch.arange(1, tables.shape[2] + 1, dtype=face.dtype, device=face.device)
    number = (number * seen).sort(-1, descending=True).values[..., : max(1, int(seen.sum(-1).max()))]  # [B, S, D]
    rows = gather_rows(rooms.panels, number.to(torch.int64))[..., None]  # [8, B, S, D, 1]
    along_u = (hits.u[:, :, None] - rows[1]).abs_()
    inside = torch.sub(rows[3], along_u, out=along_u)
    along_v = (hits.v[:, :, None] - rows[2]).abs_()
    torch.minimum(inside, torch.sub(rows[4], along_v, out=along_v), out=inside)
    inside.sub_((face[:, :, None] - rows[0]).abs_().mul_(1e3))
    return _step(inside).mul_(number[..., None]).amax(2)


def _enter_panels(rooms: PackedRooms, hits: Hits, rays: Triple, chosen: Tensor) -> Hits:
    """Return hits with walls replaced by the panels in them; ``chosen`` is the panel's number, 0 for none."""
    _, cu, cv, hu, hv, recess, frame, bars = gather_rows(rooms.panels, chosen.to(torch.int64))
    some = chosen.clamp(max=1.0)
    on_x, on_y, on_z = hits.normal  # of a wall: one of them is 1
    ray_u, ray_v = torch.lerp(rays[0], rays[1], on_x), torch.lerp(rays[2], rays[1], on_z)
    ray_n = on_x * rays[0] + on_y * rays[1] + on_z * rays[2]
    u, v = hits.u - cu, hits.v - cv
    deep = some * _step(recess.clone())
    steps = [(hu - u * _sign(ray_u)) / (ray_u.abs() + 1e-9), (hv - v * _sign(ray_v)) / (ray_v.abs() + 1e-9)]
    forward = recess / (ray_n.abs() + 1e-9)
    sideways = torch.minimum(steps[0], steps[1])
    reveal = deep * _step(forward - sideways)
    step = torch.minimum(forward, sideways).mul_(deep)
    u, v = u + ray_u * step, v + ray_v * step
    edge = torch.minimum(hu - u.abs(), hv - v.abs())
    border = torch.maximum(_step(frame - edge), bars * _step(0.025 - torch.minimum(u.abs(), v.abs())))
    border = torch.maximum(border, reveal)
    first = 5.0 + rooms.bodies.shape[1]
    surface = torch.lerp(hits.surface, first + 2.0 * (chosen - 1.0) + border, some)
    across = _step(steps[1] - steps[0])  # 1 where the reveal is met in u, 0 in v
    wall_u = (on_y + on_z, on_x, torch.zeros_like(on_x))
    wall_v = (torch.zeros_like(on_x), on_z, on_x + on_y)
    normal = tuple(
        torch.lerp(n, torch.lerp(b, a, across), reveal) for n, a, b in zip(hits.normal, wall_u, wall_v, strict=True)
    )
    point = tuple(p + ray * step for p, ray in zip(hits.point, rays, strict=True))
    u, v = torch.lerp(hits.u, u + step * ray_n.abs() * reveal, some), torch.lerp(hits.v, v, some)
    return Hits(hits.distance + step, cast(Triple, point), cast(Triple, normal), surface, u=u, v=v)


def _sign(values: Tensor) -> Tensor:
    return (values * 1e12).clamp_(-1.0, 1.0)


def shade(rooms: PackedRooms, floor: Tensor, hits: Hits, rays: Triple, pixel_rad: Tensor) -> Tensor:
    """Return display colors [3, B, S, N] in 0..1 of hits; ``pixel_rad`` [B, S, 1] is the angle of a pixel.

    ``floor`` is [B, G, G], the light that reaches the floor, as ``floor_light`` gives it.
    """
    page, scale, off_u, off_v, *colors, emission = gather_rows(rooms.surfaces, hits.surface)
    nx, ny, nz = hits.normal
    length = (rays[0] * rays[0] + rays[1] * rays[1] + rays[2] * rays[2]).sqrt_()
    cosine = (nx * rays[0] + ny * rays[1] + nz * rays[2]).abs_().div_(length).clamp_(min=0.05)
    footprint = hits.distance * length * pixel_rad * scale * cosine.rsqrt_() * PAGE_PX
    mix, tone, accent = _sample_atlas(page, hits.u * scale + off_u, hits.v * scale + off_v, footprint)
    light = _irradiance(rooms, floor, hits)
    tone = tone.mul_(0.9).add_(0.55)
    out = []
    for channel in range(3):
        first, second, third = colors[channel], colors[3 + channel], colors[6 + channel]
        albedo = torch.lerp(torch.lerp(first, second, mix), third, accent).mul_(tone)
        radiance = albedo.mul_(light[channel].add_(emission))
        out.append((radiance * 1.25).div_(radiance.add_(0.25)).clamp_(0.0, 1.0))  # a display curve, near sRGB's
    return torch.stack(out)


def _sample_atlas(page: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three channels at pages' places; ``footprint`` is a pixel's size in texels."""
    mix, tone, accent = _sample_levels(page, u, v, footprint)
    if footprint.min() < 0.5:  # seen from so near that texels would show: add grain that is finer than they are
        near = (1.0 - 2.0 * footprint).clamp_(min=0.0)
        _, grain, _ = _sample_levels(torch.zeros_like(page), u * _GRAIN, v * _GRAIN, footprint * _GRAIN)
        tone = tone + (grain - 0.5) * near * 0.4
    return mix, tone, accent


def _sample_levels(page: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three channels, blended between the two levels nearest to the footprint."""
    atlas = load_atlas(str(u.device))
    level = footprint.clamp(min=1e-6).log2_().clamp_(0.0, LEVELS - 1.001)
    low = level.floor()
    u, v = u - u.floor(), v - v.floor()
    rows, columns = atlas.picture.shape[-2:]
    index = torch.stack((low, low + 1.0))  # [2, B, S, N], as are all that follow from it
    size = torch.exp2(-index).mul_(PAGE_PX)
    y = atlas.level_rows.index_select(0, index.to(torch.int64).flatten()).view_as(size)
    y.add_(page * (size + 2.0)).add_(v * size).add_(0.5).mul_(2.0 / (rows - 1)).sub_(1.0)
    x = size.mul_(u).add_(0.5).mul_(2.0 / (columns - 1)).sub_(1.0)
    grid = torch.stack((x, y), -1).view(1, 2, -1, 2)
    near, far = F.grid_sample(atlas.picture, grid, align_corners=True)[0].unbind(1)  # each [3, B * S * N]
    mix, tone, accent = torch.lerp(near, far, (level - low).flatten()).view(3, *u.shape)
    return mix, tone, accent


def _irradiance(rooms: PackedRooms, floor: Tensor, hits: Hits) -> Triple:
    """Return light [B, S, N] for red, green and blue: lamps with falloff over an ambient term, less in corners."""
    (x, y, z), (nx, ny, nz) = hits.point, hits.normal
    corner = None
    center = rooms.half[:, 2, None, None]
    for place, along, reach in ((x, nx, 0), (y, ny, 1), (z - center, nz, 2)):
        gap = (rooms.half[:, reach, None, None] - place.abs()).clamp_(min=0.0)
        dark = (1.0 - along * along) * 0.055 / (gap + 0.1)
        corner = 1.0 - dark if corner is None else corner.mul_(1.0 - dark)
    assert corner is not None
    corner = corner.mul_(_floor_shade(rooms, floor, hits))
    sky = corner * (0.85 + 0.15 * nz)
    total = [sky * rooms.ambient[:, c, None, None] for c in range(3)]
    for row in rooms.lights.unbind(1):
        lx, ly, lz, *power = row[:, :, None, None].unbind(1)
        tx, ty, tz = lx - x, ly - y, lz - z
        square = (tx * tx).addcmul_(ty, ty).addcmul_(tz, tz)
        facing = tx.mul_(nx).addcmul_(ty, ny).addcmul_(tz, nz).mul_((square + 1e-4).rsqrt_())
        strength = facing.mul_(0.8).add_(0.2).clamp_(min=0.0).mul_(square.add_(0.8).reciprocal_()).mul_(corner)
        for c in range(3):
            total[c].add_(strength * power[c])
    return total[0], total[1], total[2]


def _floor_shade(rooms: PackedRooms, floor: Tensor, hits: Hits) -> Tensor:
    """Return factors [B, S, N] that darken what lies on the floor below and beside furniture."""
    x, y, z = hits.point
    grid = torch.stack((x / rooms.half[:, 0, None, None], y / rooms.half[:, 1, None, None]), -1)
    light = F.grid_sample(floor[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    low = (1.0 - z * 4.0).clamp_(0.0, 1.0)
    return 1.0 - low * 0.7 * (1.0 - light)
