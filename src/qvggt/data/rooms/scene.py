"""Contents of a procedural room, and the distribution (family) that rooms are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qvggt.data.rooms.textures import PAGES

PathKind = Literal["mixed", "walk", "orbit", "wander", "loop"]

FACES = ("+x", "-x", "+y", "-y", "+z", "-z")
"""Faces of the room in the order of their surfaces; ``+z`` is the ceiling."""

_SCENE_STREAM, CAMERA_STREAM, DEGRADE_STREAM = 0, 1, 2


@dataclass(frozen=True)
class RoomFamily:
    """The distribution that rooms and their cameras are drawn from.

    Attributes:
        landmarks: 0..1, how much a single image reveals of its own pose. At 1 walls have a color by direction, the
            cameras always look toward +x, and window and door are in typical places; at 0 colors and heading are
            random, and only correspondence between pictures tells the pose. Between, walls blend and the rest is
            drawn with this probability.
        path: how the camera moves; ``mixed`` draws ``walk``, ``orbit`` or ``wander`` for each scene, ``loop`` makes a
            full turn and returns to its start.
        baseline: multiplies the camera's motion.
        fov_deg: range of the horizontal field of view in degrees; it is constant within a scene.
        furniture: least and largest number of pieces.
        min_overlap: pairs of frames that see at least this share of each other connect all frames of a scene.
        degrade: adds motion blur, noise, exposure changes, vignetting and JPEG artifacts, like a hand-held camera.
    """

    landmarks: float = 1.0
    path: PathKind = "mixed"
    baseline: float = 1.0
    fov_deg: tuple[float, float] = (55.0, 75.0)
    furniture: tuple[int, int] = (4, 9)
    min_overlap: float = 0.3
    degrade: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.landmarks <= 1.0:
            raise ValueError(f"landmarks must lie in 0..1, got {self.landmarks}")
        if not 0.0 <= self.min_overlap <= 0.9:
            raise ValueError(f"min_overlap must lie in 0..0.9, got {self.min_overlap}")
        if not 20.0 <= self.fov_deg[0] <= self.fov_deg[1] <= 120.0:
            raise ValueError(f"fov_deg must be an increasing range within 20..120, got {self.fov_deg}")
        if not 0 <= self.furniture[0] <= self.furniture[1]:
            raise ValueError(f"furniture must be an increasing range from 0 on, got {self.furniture}")


@dataclass(frozen=True)
class Surface:
    """The material of one face or body.

    Attributes:
        page: index in PAGES.
        scale: pages per meter.
        offset: where in the page the face's center lies, in pages.
        colors: three linear RGB colors that the page's channels blend.
        emission: light that it gives by itself, as a multiple of its color.
    """

    page: int
    scale: float
    offset: tuple[float, float]
    colors: tuple[tuple[float, float, float], ...]
    emission: float = 0.0

    def row(self) -> list[float]:
        """Return the surface as one row of the renderer's table."""
        return [self.page, self.scale, *self.offset, *(c for color in self.colors for c in color), self.emission]


@dataclass(frozen=True)
class Primitive:
    """A box, upright cylinder or ellipsoid: ``half`` are half extents in its own axes, ``yaw`` turns it about z."""

    kind: Literal["box", "cylinder", "ellipsoid"]
    center: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw: float
    surface: Surface


@dataclass(frozen=True)
class Panel:
    """A rectangle in a face of the room: a door, a window, a picture, a rug.

    Attributes:
        face: index in FACES.
        center: in the face's two axes (the world's, in order), from the room's center, in meters.
        half: half extents in meters.
        recess: how far it lies behind the wall, in meters.
        frame: width of its frame in meters.
        bars: 1 where a cross of bars divides it.
        surface: of the inner part.
        frame_surface: of frame, bars and reveal.
    """

    face: int
    center: tuple[float, float]
    half: tuple[float, float]
    recess: float
    frame: float
    bars: float
    surface: Surface
    frame_surface: Surface


@dataclass(frozen=True)
class Room:
    """One drawn room. The origin is the middle of the floor, z points up, units are meters.

    Attributes:
        half: half extents; the room spans ``0..2*half[2]`` in z.
        heading: direction in radians, from +x, that the cameras look along on average.
        faces: six surfaces in the order of FACES.
        primitives: furniture, without the room itself.
        panels: openings, pictures and rugs.
        lights: [L, 6] position and linear RGB strength.
        ambient: linear RGB.
    """

    half: tuple[float, float, float]
    heading: float
    faces: tuple[Surface, ...]
    primitives: tuple[Primitive, ...]
    panels: tuple[Panel, ...]
    lights: np.ndarray
    ambient: tuple[float, float, float]


class Dice:
    """Random numbers of one scene from a counter-based generator, drawn in blocks because single draws are slow."""

    def __init__(self, seed: int, stream: int = _SCENE_STREAM) -> None:
        if not 0 <= seed < 2**63:
            raise ValueError(f"a seed must lie in 0..2**63-1, got {seed}")
        self.rng = np.random.Generator(np.random.Philox(key=seed + (stream << 64)))
        self._block: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in low..high."""
        if not self._block:
            self._block = self.rng.random(256).tolist()  # pyrefly: ignore[bad-assignment]
        return low + (high - low) * self._block.pop()

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """Return an integer in low..high, both included."""
        return min(high, low + int(self.uniform() * (high - low + 1)))

    def pick(self, options: Sequence) -> object:
        """Return one of the options."""
        return options[self.integer(0, len(options) - 1)]


def draw_color(dice: Dice, value: tuple[float, float], saturation: tuple[float, float]) -> tuple[float, float, float]:
    """Return a linear RGB color of random hue, its value and saturation drawn from ranges."""
    hue, v, s = dice.uniform(0.0, 6.0), dice.uniform(*value), dice.uniform(*saturation)
    return _hue_channel(hue + 3.0, v, s), _hue_channel(hue + 1.0, v, s), _hue_channel(hue + 5.0, v, s)


def _hue_channel(turn: float, value: float, saturation: float) -> float:
    part = 2.0 - abs(turn % 6.0 - 3.0)
    return value * (1.0 - saturation * (0.0 if part < 0.0 else 1.0 if part > 1.0 else part))


def shift_color(dice: Dice, color: tuple[float, float, float], factor: float, jitter: float):
    """Return a color brightened by a factor with every channel jittered relatively."""
    r, g, b = color
    return _shift(dice, r * factor, jitter), _shift(dice, g * factor, jitter), _shift(dice, b * factor, jitter)


def _shift(dice: Dice, channel: float, jitter: float) -> float:
    shifted = channel * (1.0 + dice.uniform(-jitter, jitter))
    return 0.01 if shifted < 0.01 else 0.95 if shifted > 0.95 else shifted


def draw_surface(
    dice: Dice, pages: Sequence[str], color: tuple[float, float, float], scale: tuple[float, float], contrast: float
) -> Surface:
    """Return a surface of one of the pages whose colors vary about a base color by a contrast in 0..1."""
    page = PAGES.index(str(dice.pick(pages)))
    factor = 1.0 - contrast * dice.uniform(0.6, 1.0)
    if sum(color) < 0.45 or (sum(color) < 1.2 and dice.chance(0.5)):
        factor = 1.0 / factor
    second = shift_color(dice, color, factor, 0.3 * contrast)
    accent = draw_color(dice, (0.05, 0.8), (0.2, 0.9))
    weight = 0.25 + 0.5 * contrast
    rest = 1.0 - weight
    r, g, b = (weight * accent[k] + rest * color[k] for k in range(3))
    offset = (dice.uniform(), dice.uniform())
    return Surface(page, dice.uniform(*scale) / 8.0, offset, (color, second, (r, g, b)))
