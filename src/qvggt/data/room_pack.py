"""Rooms of one batch as padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qvggt.data.room_scene import Panel, Primitive, Room

KINDS = ("box", "cylinder", "ellipsoid")
_NOWHERE = (0.0, 0.0, -1e3, 1e-3, 1e-3, 1e-3, 1.0, 0.0, 0.0)  # far below the floor, where no ray comes


@dataclass(frozen=True)
class PackedRooms:
    """Rooms as tables. Body 0 is the room itself; boxes, cylinders and ellipsoids follow, each kind padded.

    Attributes:
        half: [B, 3] half extents of the rooms.
        bodies: [B, K, 9] centre (3), half extents (3), cosine and sine of the yaw, index in KINDS.
        counts: number of boxes, cylinders and ellipsoids, padding included; they sum to K - 1.
        own_counts: the same without padding, and the number of panels, for each room.
        surfaces: [B, M, 14] rows of ``Surface.row``: six faces, K - 1 bodies, then inner part and frame of each panel.
        panels: [B, D + 1, 8] face, centre (2), half extents (2), recess, frame, bars; the first is none.
        lights: [B, L, 6].
        ambient: [B, 3].
    """

    half: Tensor
    bodies: Tensor
    counts: tuple[int, int, int]
    own_counts: tuple[tuple[int, int, int, int], ...]
    surfaces: Tensor
    panels: Tensor
    lights: Tensor
    ambient: Tensor

    def select(self, rooms: Sequence[int]) -> PackedRooms:
        """Return some of the rooms, padded as before."""
        index = torch.tensor(rooms, device=self.half.device)
        half, bodies, surfaces, panels, lights, ambient = (
            table.index_select(0, index)
            for table in (self.half, self.bodies, self.surfaces, self.panels, self.lights, self.ambient)
        )
        own_counts = tuple(self.own_counts[room] for room in rooms)
        return PackedRooms(half, bodies, self.counts, own_counts, surfaces, panels, lights, ambient)

    def single(self, room: int) -> PackedRooms:
        """Return one room without padding."""
        *own, panels = self.own_counts[room]
        starts = (1, 1 + self.counts[0], 1 + self.counts[0] + self.counts[1])
        bodies = [start + k for start, count in zip(starts, own, strict=True) for k in range(count)]
        first_panel = self.bodies.shape[1] + 5
        looks = [*range(6), *(body + 5 for body in bodies), *range(first_panel, first_panel + 2 * panels)]
        at = slice(room, room + 1)
        return PackedRooms(
            self.half[at],
            self.bodies[at, [0, *bodies]],
            (own[0], own[1], own[2]),
            self.own_counts[at],
            self.surfaces[at, looks],
            self.panels[at, : panels + 1],
            self.lights[at],
            self.ambient[at],
        )


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
    half, lights, ambient = ([getattr(room, name) for room in rooms] for name in ("half", "lights", "ambient"))
    tables = (_table(t, device) for t in (surfaces, panel_rows, lights, ambient))
    own_counts = tuple(
        (len(groups[0]), len(groups[1]), len(groups[2]), len(room.panels))
        for room, groups in zip(rooms, grouped, strict=True)
    )
    return PackedRooms(_table(half, device), _table(bodies, device), counts, own_counts, *tables)


_NO_PANEL = (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _body_row(body: Primitive, kind: int) -> tuple[float, ...]:
    return (*body.centre, *body.half, float(np.cos(body.yaw)), float(np.sin(body.yaw)), float(kind))


def _panel_row(panel: Panel) -> tuple[float, ...]:
    return (float(panel.face), *panel.centre, *panel.half, panel.recess, panel.frame, panel.bars)


def _table(rows: Sequence, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(rows, np.float64).astype(np.float32)).to(device)
