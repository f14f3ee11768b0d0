"""Draws a room from its seed: size, colors, openings, pictures, furniture and lights."""

from __future__ import annotations

import math

import numpy as np

from qvggt.data.rooms.furniture import draw_furniture
from qvggt.data.rooms.scene import Dice, Panel, Room, RoomFamily, Surface, draw_color, draw_surface, shift_color
from qvggt.data.rooms.textures import PAGES

WALL_PALETTE = ((0.74, 0.36, 0.24), (0.32, 0.46, 0.66), (0.80, 0.68, 0.36), (0.40, 0.58, 0.36))
"""Linear base color of each wall, in the order of FACES, in a room whose pictures give their pose away."""


def draw_room(seed: int, family: RoomFamily) -> Room:
    """Return the room of a seed: the same on every machine, whatever else is drawn beside it."""
    dice = Dice(seed)
    half = (dice.uniform(1.75, 3.5), dice.uniform(1.75, 3.5), dice.uniform(1.2, 1.6))
    heading = dice.uniform(-math.pi, math.pi)
    if dice.chance(family.landmarks):
        heading = 0.0
    faces = _draw_faces(dice, family.landmarks)
    panels = _draw_panels(dice, half, heading, family.landmarks)
    primitives = draw_furniture(dice, half, heading, dice.integer(*family.furniture))
    lights, ambient = _draw_lights(dice, half, panels)
    return Room(half, heading, faces, primitives, panels=panels, lights=lights, ambient=ambient)


def _draw_faces(dice: Dice, landmarks: float) -> tuple[Surface, ...]:
    faces = []
    for base in WALL_PALETTE:
        own = draw_color(dice, (0.35, 0.85), (0.05, 0.65))
        fixed = shift_color(dice, base, dice.uniform(0.85, 1.15), 0.1)
        r, g, b = (landmarks * f + (1.0 - landmarks) * o for f, o in zip(fixed, own, strict=True))
        pages = ("plaster", "plaster", "clouds", "stripes", "bricks", "patches")
        faces.append(draw_surface(dice, pages, (r, g, b), (0.7, 1.1), contrast=0.4))
    value = dice.uniform(0.65, 0.85)
    ceiling = (value, value * 0.98, value * dice.uniform(0.85, 0.98))
    if not dice.chance(0.5 + 0.5 * landmarks):
        ceiling = draw_color(dice, (0.4, 0.85), (0.05, 0.5))
    faces.append(draw_surface(dice, ("plaster", "clouds", "planks"), ceiling, (0.7, 1.1), contrast=0.3))
    floor = shift_color(dice, (0.42, 0.27, 0.16), dice.uniform(0.6, 1.5), 0.25)
    if not dice.chance(0.4 + 0.4 * landmarks):
        floor = draw_color(dice, (0.15, 0.6), (0.05, 0.6))
    faces.append(draw_surface(dice, ("planks", "planks", "tiles", "clouds", "marble"), floor, (0.7, 1.1), contrast=0.5))
    return tuple(faces)


def _draw_panels(dice: Dice, half: tuple[float, float, float], heading: float, landmarks: float) -> tuple[Panel, ...]:
    panels: list[Panel] = []
    windows = dice.integer(1, 2)
    for index in range(windows):
        typical = index == 0 and dice.chance(landmarks)
        face = 0 if typical else dice.integer(0, 3)
        shift = dice.uniform(-0.25, 0.25) if typical else dice.uniform(-0.8, 0.8)
        _hang(panels, half, face, shift, panel=_window(dice, half))
    typical = dice.chance(landmarks)
    face = 2 if typical else dice.integer(0, 3)
    shift = dice.uniform(0.3, 0.7) if typical else dice.uniform(-0.9, 0.9)
    _hang(panels, half, face, shift, panel=_door(dice, half))
    ahead = (0 if math.cos(heading) > 0.0 else 1, 2 if math.sin(heading) > 0.0 else 3)
    main = ahead[0] if abs(math.cos(heading)) > 0.7 else ahead[1]
    for _ in range(dice.integer(4, 8)):
        face = main if dice.chance(0.4) else dice.integer(0, 3)
        picture = _picture(dice, half)
        any(_hang(panels, half, face, dice.uniform(-1.0, 1.0), panel=picture) for _ in range(4))
    if dice.chance(0.6):
        size = (dice.uniform(0.3, 0.6) * half[0], dice.uniform(0.3, 0.6) * half[1])
        center = (dice.uniform(-0.35, 0.35) * half[0], dice.uniform(-0.35, 0.35) * half[1])
        surface = draw_surface(
            dice,
            ("collage", "stripes", "patches", "marble"),
            draw_color(dice, (0.2, 0.7), (0.3, 0.8)),
            (1.2, 2.5),
            contrast=0.7,
        )
        border = draw_surface(dice, ("clouds",), draw_color(dice, (0.1, 0.7), (0.2, 0.8)), (1.0, 2.0), contrast=0.3)
        panels.append(
            Panel(5, center, size, 0.0, frame=dice.uniform(0.05, 0.15), bars=0.0, surface=surface, frame_surface=border)
        )
    return tuple(panels)


def _window(dice: Dice, half: tuple[float, float, float]) -> Panel:
    size = (dice.uniform(0.45, 0.9), dice.uniform(0.45, 0.65))
    sky = shift_color(dice, (0.42, 0.62, 0.9), 1.0, 0.15)
    garden = shift_color(dice, (0.16, 0.3, 0.1), dice.uniform(0.7, 1.4), 0.3)
    offset = (dice.uniform(), dice.uniform())
    pane = Surface(
        PAGES.index("clouds"), dice.uniform(1.0, 1.8) / 8.0, offset, (sky, garden, (0.85, 0.85, 0.8)), emission=0.35
    )
    frame = draw_surface(dice, ("plaster",), draw_color(dice, (0.55, 0.9), (0.0, 0.15)), (1.0, 2.0), contrast=0.15)
    height = dice.uniform(1.45, 1.6) - half[2]
    return Panel(
        0,
        (0.0, height),
        size,
        dice.uniform(0.06, 0.18),
        frame=0.06,
        bars=float(dice.chance(0.7)),
        surface=pane,
        frame_surface=frame,
    )


def _door(dice: Dice, half: tuple[float, float, float]) -> Panel:
    size = (dice.uniform(0.4, 0.5), dice.uniform(1.0, 1.08))
    color = draw_color(dice, (0.12, 0.7), (0.1, 0.7))
    leaf = draw_surface(dice, ("planks", "grain"), color, (1.0, 2.0), contrast=0.35)
    frame = draw_surface(dice, ("grain",), draw_color(dice, (0.2, 0.9), (0.0, 0.4)), (1.0, 2.0), contrast=0.2)
    return Panel(
        0,
        (0.0, size[1] - half[2]),
        size,
        dice.uniform(0.03, 0.1),
        frame=0.08,
        bars=0.0,
        surface=leaf,
        frame_surface=frame,
    )


def _picture(dice: Dice, half: tuple[float, float, float]) -> Panel:
    size = (dice.uniform(0.2, 0.55), dice.uniform(0.2, 0.45))
    art = draw_surface(
        dice,
        ("collage", "collage", "marble", "patches"),
        draw_color(dice, (0.4, 0.9), (0.1, 0.9)),
        (1.5, 3.0),
        contrast=0.85,
    )
    frame = draw_surface(dice, ("grain",), draw_color(dice, (0.03, 0.6), (0.0, 0.6)), (1.0, 2.0), contrast=0.2)
    return Panel(
        0,
        (0.0, dice.uniform(1.35, 1.75) - half[2]),
        size,
        0.0,
        frame=dice.uniform(0.02, 0.05),
        bars=0.0,
        surface=art,
        frame_surface=frame,
    )


def _hang(panels: list[Panel], half: tuple[float, float, float], face: int, shift: float, panel: Panel) -> bool:
    """Hang a panel on a wall and return True, unless it would cover another there."""
    width = half[1] if face < 2 else half[0]
    room = width - panel.half[0] - 0.15
    if room <= 0.0:
        return False
    center = (shift * room, panel.center[1])
    for other in panels:
        apart = abs(other.center[0] - center[0]) > other.half[0] + panel.half[0] + 0.08
        above = abs(other.center[1] - center[1]) > other.half[1] + panel.half[1] + 0.08
        if other.face == face and not apart and not above:
            return False
    top = half[2] - 0.05 - panel.half[1]
    center = (center[0], min(center[1], top))
    panels.append(
        Panel(
            face,
            center,
            panel.half,
            panel.recess,
            frame=panel.frame,
            bars=panel.bars,
            surface=panel.surface,
            frame_surface=panel.frame_surface,
        )
    )
    return True


def _draw_lights(
    dice: Dice, half: tuple[float, float, float], panels: tuple[Panel, ...]
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return a ceiling lamp, a second lamp and the light of the first window, and the ambient light."""
    size = (half[0] + half[1]) ** 2 / 25.0
    warm = (1.0, dice.uniform(0.8, 0.95), dice.uniform(0.55, 0.85))
    rows = []
    power = dice.uniform(0.9, 1.6) * size
    lamp = (dice.uniform(-0.4, 0.4) * half[0], dice.uniform(-0.4, 0.4) * half[1], 2 * half[2] - dice.uniform(0.3, 0.6))
    rows.append([*lamp, *(power * c for c in warm)])
    power = dice.uniform(0.15, 0.6) * size
    corner = (dice.uniform(-0.85, 0.85) * half[0], dice.uniform(-0.85, 0.85) * half[1], dice.uniform(1.2, 1.8))
    rows.append([*corner, *(power * c for c in warm)])
    pane = panels[0]
    axis, sign = pane.face // 2, 1.0 - 2.0 * (pane.face % 2)
    place = [0.0, 0.0, half[2] + pane.center[1]]
    place[axis] = sign * (half[axis] - 0.25)
    place[1 - axis] = pane.center[0]
    power = dice.uniform(0.6, 1.8) * size
    cool = (dice.uniform(0.75, 0.95), dice.uniform(0.88, 1.0), 1.0)
    rows.append([*place, *(power * c for c in cool)])
    level = dice.uniform(0.22, 0.38)
    return np.array(rows), (level, level * dice.uniform(0.92, 1.0), level * dice.uniform(0.85, 1.05))
