"""Draw furniture made of boxes, cylinders and ellipsoids, and place it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from qvggt.data.rooms.scene import Dice, Primitive, Surface, draw_color, draw_surface

MAX_PRIMITIVES = 20
"""Largest number of bodies in a room: each is tested against every ray."""

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Piece:
    """One piece about its own origin on the floor, its back toward -y.

    Attributes:
        half: half extents of its footprint in x and y.
        bodies: its primitives, in its own frame.
        at_wall: whether it stands with its back to a wall.
    """

    half: tuple[float, float]
    bodies: tuple[Primitive, ...]
    at_wall: bool


def draw_furniture(dice: Dice, half: Point, heading: float, count: int) -> tuple[Primitive, ...]:
    """Return the bodies of ``count`` pieces that stand free of each other, most of them where the cameras look."""
    makers = (_cabinet, _bookcase, _sofa, _bed, _table, _round_table, _chair, _lamp, _plant, _ball, _boxes, _pouf)
    placed: list[tuple[float, float, float, float]] = []
    bodies: list[Primitive] = []
    for _ in range(count):
        maker: Callable[[Dice], Piece] = makers[dice.integer(0, len(makers) - 1)]
        piece = maker(dice)
        if len(bodies) + len(piece.bodies) > MAX_PRIMITIVES:
            continue
        ahead = dice.chance(0.75)
        for _ in range(8):
            x, y, yaw, extent = _propose(dice, half, piece)
            in_front = x * math.cos(heading) + y * math.sin(heading) > 0.0
            if in_front == ahead and all(_apart((x, y, *extent), other) for other in placed):
                placed.append((x, y, *extent))
                bodies += [_move(body, x, y, yaw) for body in piece.bodies]
                break
    return tuple(bodies)


def _propose(dice: Dice, half: Point, piece: Piece) -> tuple[float, float, float, tuple[float, float]]:
    """Return a position, yaw and the half extents of the footprint after turning."""
    if piece.at_wall:
        wall = dice.integer(0, 3)
        yaw = (0.5 * math.pi, -0.5 * math.pi, math.pi, 0.0)[wall]
        extent = (piece.half[1], piece.half[0]) if wall < 2 else piece.half
        free = (max(0.0, half[0] - extent[0] - 0.02), max(0.0, half[1] - extent[1] - 0.02))
        along = dice.uniform(-1.0, 1.0)
        sign = 1.0 if wall in (0, 2) else -1.0
        place = (sign * free[0], along * free[1]) if wall < 2 else (along * free[0], sign * free[1])
        return *place, yaw, extent
    yaw = dice.uniform(-math.pi, math.pi)
    c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
    extent = (c * piece.half[0] + s * piece.half[1], s * piece.half[0] + c * piece.half[1])
    free = (max(0.0, half[0] - extent[0] - 0.1), max(0.0, half[1] - extent[1] - 0.1))
    return dice.uniform(-1.0, 1.0) * free[0], dice.uniform(-1.0, 1.0) * free[1], yaw, extent


def _apart(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    gap = 0.08
    return abs(one[0] - other[0]) > one[2] + other[2] + gap or abs(one[1] - other[1]) > one[3] + other[3] + gap


def _move(body: Primitive, x: float, y: float, yaw: float) -> Primitive:
    c, s = math.cos(yaw), math.sin(yaw)
    px, py, pz = body.center
    return Primitive(
        body.kind, (x + c * px - s * py, y + s * px + c * py, pz), body.half, body.yaw + yaw, surface=body.surface
    )


def _wood(dice: Dice) -> Surface:
    color = draw_color(dice, (0.12, 0.75), (0.1, 0.75))
    return draw_surface(dice, ("grain", "planks", "clouds", "marble"), color, (1.2, 2.5), contrast=0.45)


def _cloth(dice: Dice) -> Surface:
    color = draw_color(dice, (0.15, 0.85), (0.2, 0.9))
    return draw_surface(dice, ("clouds", "stripes", "patches", "plaster", "collage"), color, (1.5, 3.0), contrast=0.6)


def _box(center: Point, half: Point, surface: Surface, yaw: float = 0.0) -> Primitive:
    return Primitive("box", center, half, yaw, surface=surface)


def _cylinder(x: float, y: float, low: float, high: float, radius: float, surface: Surface) -> Primitive:
    middle, reach = 0.5 * (low + high), 0.5 * (high - low)
    return Primitive("cylinder", (x, y, middle), (radius, radius, reach), 0.0, surface=surface)


def _ornament(dice: Dice, reach: float, top: float) -> Primitive:
    """Return something small on top of a piece of furniture."""
    x, y, size = dice.uniform(-0.6, 0.6) * reach, 0.0, dice.uniform(0.07, 0.14)
    kind = dice.integer(0, 2)
    if kind == 0:
        return Primitive("ellipsoid", (x, y, top + size), (size, size, size), 0.0, surface=_cloth(dice))
    if kind == 1:
        return _cylinder(x, y, top, top + 2.2 * size, radius=0.7 * size, surface=_cloth(dice))
    return _box((x, y, top + size), (size, 0.7 * size, size), _cloth(dice), dice.uniform(0.0, 3.0))


def _cabinet(dice: Dice) -> Piece:
    w, d, h = dice.uniform(0.3, 0.7), dice.uniform(0.18, 0.28), dice.uniform(0.35, 0.6)
    bodies = (_box((0.0, 0.0, h), (w, d, h), _wood(dice)), _ornament(dice, w, 2 * h))
    return Piece((w, d), bodies, True)


def _bookcase(dice: Dice) -> Piece:
    w, d, h = dice.uniform(0.3, 0.65), dice.uniform(0.13, 0.2), dice.uniform(0.7, 1.05)
    color = draw_color(dice, (0.3, 0.8), (0.3, 0.8))
    books = draw_surface(dice, ("collage", "planks", "tiles"), color, (1.5, 2.5), contrast=0.85)
    return Piece((w, d), (_box((0.0, 0.0, h), (w, d, h), books),), True)


def _sofa(dice: Dice) -> Piece:
    w, d, cloth = dice.uniform(0.6, 1.05), dice.uniform(0.38, 0.46), _cloth(dice)
    bodies = [
        _box((0.0, 0.08, 0.21), (w, d - 0.08, 0.21), cloth),
        _box((0.0, 0.1 - d, 0.4), (w, 0.1, 0.4), cloth),
        _box((w - 0.08, 0.0, 0.3), (0.08, d, 0.3), cloth),
        _box((0.08 - w, 0.0, 0.3), (0.08, d, 0.3), cloth),
    ]
    if dice.chance(0.5):
        bodies.append(_box((0.4 * w, 0.0, 0.5), (0.18, 0.1, 0.12), _cloth(dice), 0.4))
    return Piece((w, d), tuple(bodies), True)


def _bed(dice: Dice) -> Piece:
    w, d = dice.uniform(0.45, 0.85), dice.uniform(0.95, 1.05)
    bodies = (
        _box((0.0, 0.05, 0.24), (w, d - 0.05, 0.24), _cloth(dice)),
        _box((0.0, 0.04 - d, 0.5), (w, 0.04, 0.5), _wood(dice)),
        _box((0.0, 0.35 - d, 0.54), (0.7 * w, 0.18, 0.07), _cloth(dice)),
    )
    return Piece((w, d), bodies, True)


def _table(dice: Dice) -> Piece:
    w, d, h, wood = dice.uniform(0.45, 0.85), dice.uniform(0.3, 0.45), dice.uniform(0.68, 0.78), _wood(dice)
    bodies = (
        _box((0.0, 0.0, h - 0.025), (w, d, 0.025), wood),
        _box((0.85 * w, 0.0, 0.5 * h - 0.025), (0.03, 0.85 * d, 0.5 * h - 0.025), wood),
        _box((-0.85 * w, 0.0, 0.5 * h - 0.025), (0.03, 0.85 * d, 0.5 * h - 0.025), wood),
        _ornament(dice, w, h),
    )
    return Piece((w, d), bodies, dice.chance(0.4))


def _round_table(dice: Dice) -> Piece:
    r, h, wood = dice.uniform(0.28, 0.6), dice.uniform(0.45, 0.75), _wood(dice)
    bodies = (
        _cylinder(0.0, 0.0, h - 0.04, h, radius=r, surface=wood),
        _cylinder(0.0, 0.0, 0.0, h - 0.04, radius=0.15 * r, surface=wood),
        _ornament(dice, 0.6 * r, h),
    )
    return Piece((r, r), bodies, False)


def _chair(dice: Dice) -> Piece:
    w, cloth = dice.uniform(0.2, 0.25), _cloth(dice)
    bodies = (
        _box((0.0, 0.0, 0.44), (w, w, 0.03), cloth),
        _box((0.0, 0.03 - w, 0.7), (w, 0.03, 0.23), cloth),
        _cylinder(0.0, 0.0, 0.0, 0.41, radius=0.06, surface=_wood(dice)),
    )
    return Piece((w, w), bodies, False)


def _lamp(dice: Dice) -> Piece:
    h, r = dice.uniform(1.2, 1.6), dice.uniform(0.14, 0.22)
    shade = draw_surface(dice, ("clouds", "stripes"), (0.85, 0.7, 0.45), (1.5, 3.0), contrast=0.3)
    shade = Surface(shade.page, shade.scale, shade.offset, shade.colors, emission=0.8)
    bodies = (
        _cylinder(0.0, 0.0, 0.0, h, radius=0.025, surface=_wood(dice)),
        _cylinder(0.0, 0.0, h, h + dice.uniform(0.2, 0.35), radius=r, surface=shade),
    )
    return Piece((r, r), bodies, False)


def _plant(dice: Dice) -> Piece:
    r, h, spread = dice.uniform(0.12, 0.2), dice.uniform(0.25, 0.45), dice.uniform(0.2, 0.38)
    green = (dice.uniform(0.04, 0.15), dice.uniform(0.18, 0.4), dice.uniform(0.03, 0.12))
    leaves = draw_surface(dice, ("clouds", "patches"), green, (3.0, 6.0), contrast=0.7)
    tall = spread * dice.uniform(1.0, 1.6)
    crown = Primitive("ellipsoid", (0.0, 0.0, h + 0.8 * tall), (spread, spread, tall), 0.0, surface=leaves)
    return Piece((spread, spread), (_cylinder(0.0, 0.0, 0.0, h, radius=r, surface=_cloth(dice)), crown), False)


def _ball(dice: Dice) -> Piece:
    r = dice.uniform(0.14, 0.34)
    return Piece((r, r), (Primitive("ellipsoid", (0.0, 0.0, r), (r, r, r), 0.0, surface=_cloth(dice)),), False)


def _boxes(dice: Dice) -> Piece:
    w, d, h = dice.uniform(0.18, 0.4), dice.uniform(0.18, 0.4), dice.uniform(0.12, 0.35)
    reach = math.hypot(w, d)
    bodies = (
        _box((0.0, 0.0, h), (w, d, h), _cloth(dice)),
        _box((0.0, 0.0, 2 * h + 0.6 * h), (0.65 * w, 0.65 * d, 0.6 * h), _cloth(dice), dice.uniform(0.2, 1.3)),
    )
    return Piece((reach, reach), bodies, False)


def _pouf(dice: Dice) -> Piece:
    r = dice.uniform(0.22, 0.38)
    return Piece((r, r), (_cylinder(0.0, 0.0, 0.0, dice.uniform(0.3, 0.5), radius=r, surface=_cloth(dice)),), False)
