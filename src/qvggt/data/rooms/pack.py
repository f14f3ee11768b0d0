"""Pack a batch of rooms into padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qvggt.data.rooms.scene import Panel, Primitive, Room

KINDS = ("box", "cylinder", "ellipsoid")
_NOWHERE = (0.0, 0.0, -1e3, 1e-3, 1e-3, 1e-3, 1.0, 0.0, 0.0)  # far below the floor, where no ray goes


@dataclass(frozen=True)
class PackedRooms:
    """Rooms as tables. Body 0 is the room itself; boxes, cylinders and ellipsoids follow, each kind padded.

    Attributes:
        half: [B, 3] half extents of the rooms.
        bodies: [B, K, 9] center (3), half extents (3), cosine and sine of the yaw, index in KINDS.
        counts: number of boxes, cylinders and ellipsoids, padding included; they sum to K - 1.
        surfaces: [B, M, 14] rows of ``Surface.row``: six faces, K - 1 bodies, then inner part and frame of each panel.
        panels: [B, D + 1, 8] face, center (2), half extents (2), recess, frame, bars; the first is none.
        panel_centers: [B, D, 3] in the room.
        lights: [B, L, 6].
        ambient: [B, 3].
    """

    half: Tensor
    bodies: Tensor
    counts: tuple[int, int, int]
    surfaces: Tensor
    panels: Tensor
    panel_centers: Tensor
    lights: Tensor
    ambient: Tensor

    def select(self, rooms: Sequence[int]) -> PackedRooms:
        """Return some of the rooms, padded as before."""
        return self._pick(torch.tensor(rooms, device=self.half.device))

    def part(self, some: slice) -> PackedRooms:
        """Return consecutive rooms, padded as before."""
        return self._pick(some)

    def _pick(self, rooms: Tensor | slice) -> PackedRooms:
        tables = (self.half, self.bodies, self.surfaces, self.panels, self.panel_centers, self.lights, self.ambient)
        half, bodies, *others = (table[rooms] for table in tables)
        return PackedRooms(half, bodies, self.counts, *others)


def pack_rooms(rooms: Sequence[Room], device: torch.device) -> PackedRooms:
    """Return rooms as padded float32 tensors on a device."""
    grouped = [[[p for p in room.primitives if p.kind == kind] for kind in KINDS] for room in rooms]
    boxes, cylinders, ellipsoids = (max(len(groups[k]) for groups in grouped) for k in range(3))
    counts = (boxes, cylinders, ellipsoids)
    panels = max(len(room.panels) for room in rooms)
    bodies, surfaces, panel_rows = [], [], []
    for room, groups in zip(rooms, grouped, strict=True):
        x, y, z = room.half
        rows = [(0.0, 0.0, z, x, y, z, 1.0, 0.0, 0.0)]
        looks = [face.row() for face in room.faces]
        for kind, group in enumerate(groups):
            rows += [_body_row(body, kind) for body in group] + [_NOWHERE] * (counts[kind] - len(group))
            looks += [body.surface.row() for body in group] + [[0.0] * 14] * (counts[kind] - len(group))
        for panel in room.panels:
            looks += [panel.surface.row(), panel.frame_surface.row()]
        missing = panels - len(room.panels)
        looks += [[0.0] * 14] * (2 * missing)
        bodies.append(rows)
        surfaces.append(looks)
        panel_rows.append([_NO_PANEL] + [_panel_row(panel) for panel in room.panels] + [_NO_PANEL] * missing)
    centers = [
        [panel_center(room, panel) for panel in room.panels] + [(0.0, 0.0, -1e3)] * (panels - len(room.panels))
        for room in rooms
    ]
    half, lights, ambient = ([getattr(room, name) for room in rooms] for name in ("half", "lights", "ambient"))
    tables = (_table(t, device) for t in (surfaces, panel_rows, centers, lights, ambient))
    return PackedRooms(_table(half, device), _table(bodies, device), counts, *tables)


_NO_PANEL = (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _body_row(body: Primitive, kind: int) -> tuple[float, ...]:
    return (*body.center, *body.half, float(np.cos(body.yaw)), float(np.sin(body.yaw)), float(kind))


def _panel_row(panel: Panel) -> tuple[float, ...]:
    return (float(panel.face), *panel.center, *panel.half, panel.recess, panel.frame, panel.bars)


def panel_center(room: Room, panel: Panel) -> tuple[float, float, float]:
    """Return where the middle of a panel is in its room, on the surface of its face."""
    axis, sign = panel.face // 2, 1.0 - 2.0 * (panel.face % 2)
    place = list(panel.center)
    place.insert(axis, sign * room.half[axis])
    return place[0], place[1], place[2] + room.half[2]


def _table(rows: Sequence, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(rows, np.float64).astype(np.float32)).to(device)
