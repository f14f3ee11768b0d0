"""What one scene scored, in a form that is kept as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIDELITY = "fidelity"
"""Protocol of results that compare a model with the float model instead of ground truth."""


@dataclass(frozen=True)
class SceneResult:
    """Figures of one scene.

    Errors of pairs are kept one by one, because pose metrics pool the pairs of all scenes of a group.

    Attributes:
        scene: its name, unique in a dataset.
        group: the pool of its pairs (a CO3D category, for example).
        protocols: names of the protocols.
        frames: number of frames.
        rotation_deg: error of every pair of frames, 0..180, NaN where the prediction was not finite.
        translation_deg: the same for the direction of translation, 0..90.
        values: metric -> value; NaN if the scene has no ground truth for it, infinite if the prediction was not
            finite.
        notes: why values are NaN or infinite, one sentence each.
        cameras: predicted ``cam_from_world``, the 12 numbers of each frame's [3, 4] by rows; empty if the model
            predicted none.
    """

    scene: str
    group: str
    protocols: tuple[str, ...]
    frames: int
    rotation_deg: tuple[float, ...] = ()
    translation_deg: tuple[float, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cameras: tuple[tuple[float, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values: NaN becomes null, infinity the string ``inf``."""
        return {
            "scene": self.scene,
            "group": self.group,
            "protocols": list(self.protocols),
            "frames": self.frames,
            "rotation_deg": [to_json_number(x) for x in self.rotation_deg],
            "translation_deg": [to_json_number(x) for x in self.translation_deg],
            "values": {name: to_json_number(x) for name, x in self.values.items()},
            "notes": list(self.notes),
            "cameras": [[to_json_number(x) for x in camera] for camera in self.cameras],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SceneResult:
        """Return the result that ``to_json`` wrote, with equal bits."""
        return cls(
            scene=stored["scene"],
            group=stored["group"],
            protocols=tuple(stored["protocols"]),
            frames=stored["frames"],
            rotation_deg=tuple(_from_json_number(x) for x in stored["rotation_deg"]),
            translation_deg=tuple(_from_json_number(x) for x in stored["translation_deg"]),
            values={name: _from_json_number(x) for name, x in stored["values"].items()},
            notes=tuple(stored["notes"]),
            cameras=tuple(tuple(_from_json_number(x) for x in camera) for camera in stored["cameras"]),
        )


def to_json_number(x: float) -> float | str | None:
    """Return a number as a value of standard JSON: NaN becomes null, infinity the string ``inf``."""
    if math.isnan(x):
        return None
    return float(x) if math.isfinite(x) else str(float(x))


def _from_json_number(stored: float | str | None) -> float:
    return math.nan if stored is None else float(stored)
