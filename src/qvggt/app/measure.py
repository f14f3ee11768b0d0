"""Distances between two picked points, and the scale that a known one of them sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qvggt.app.picking import pick_point
from qvggt.app.scene import RADIUS, Scene

if TYPE_CHECKING:
    from viser import SceneClickEvent, SceneNodeHandle, ViserServer

_COLOR = (230, 30, 90)


class Ruler:
    """Two picked points and the distance between them, drawn in the scene.

    Attributes:
        meters: meters per unit of the predictions, or None while it is not known.
    """

    def __init__(self, server: ViserServer, scene: Scene) -> None:
        self._server, self._scene = server, scene
        self._picked: list[tuple[np.ndarray, np.ndarray]] = []  # of each point, its place in the browser and the world
        self.meters: float | None = None
        self._drawn: list[SceneNodeHandle] = []
        scene.on_move = self.clear

    @property
    def distance(self) -> float | None:
        """Distance between the two points in the unit of the predictions, None before both are picked."""
        if len(self._picked) < 2:
            return None
        return float(np.linalg.norm(self._picked[0][1] - self._picked[1][1]))

    @property
    def text(self) -> str:
        """The distance, or what to do."""
        if self.distance is None:
            return "click two points" if not self._picked else "click the second point"
        return length_text(self.distance, self.meters)

    def pick(self, event: SceneClickEvent) -> bool:
        """Take the point under the mouse, if there is one; a third point begins a new pair."""
        drawn, world = self._scene.visible_points()
        index = pick_point(
            drawn, np.array(event.ray_origin), np.array(event.ray_direction), 0.6 * self._scene.point_size
        )
        if index is None:
            return False
        if len(self._picked) == 2:
            self._picked = []
        self._picked.append((drawn[index], world[index].astype(np.float64)))
        self.draw()
        return True

    def clear(self) -> None:
        """Forget both points."""
        self._picked = []
        self.draw()

    def draw(self) -> None:
        """Draw the points that are picked and their distance: a double arrow, so thick that it rises from a surface."""
        scene, size = self._server.scene, max(0.012 * RADIUS, self._scene.point_size)
        for each in self._drawn:
            each.remove()
        self._drawn = [
            scene.add_icosphere(f"/ruler/{index}", size, color=_COLOR, position=place)
            for index, (place, _) in enumerate(self._picked)
        ]
        if self.distance is not None:
            ends = np.stack([place for place, _ in self._picked])
            halves = np.stack([(ends.mean(0), end) for end in ends]).astype(np.float32)
            head = min(3 * size, 0.2 * float(np.linalg.norm(ends[1] - ends[0])))
            self._drawn += [
                scene.add_arrows(
                    "/ruler/line", halves, _COLOR, shaft_radius=0.6 * size, head_radius=1.2 * size, head_length=head
                ),
                scene.add_label("/ruler/label", self.text, position=ends.mean(0), anchor="bottom-center"),
            ]


def length_text(length: float, meters: float | None) -> str:
    """Return a length in words.

    >>> length_text(1.5, None), length_text(1.5, 2.0), length_text(0.1, 0.5)
    ('1.5 units', '3 m', '5 cm')
    """
    if meters is None:
        return f"{length:.3g} units"
    return f"{length * meters:.3g} m" if length * meters >= 1 else f"{100 * length * meters:.3g} cm"
