"""The outcome of an evaluation: figures with everything that a fair comparison needs beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qvggt.eval.results import SceneResult, Summary


@dataclass(frozen=True)
class ModelCard:
    """Which model was measured.

    Attributes:
        name: as it was asked for.
        hash: of its weights, with the hash's name in front; of stand-in weights, the name of their rule.
        method: of quantization; ``float`` for a float model.
        options: the method's.
        calibration: what it was calibrated on; empty for none.
        source: the float model that it was made of, and its hash.
        parameters: of the float model; None for chance.
        average_bits: bits of tensor data a parameter; None for chance.
        checkpoint_bytes: of its files; None where there is no file.
    """

    name: str
    hash: str = ""
    method: str = "float"
    options: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    parameters: int | None = None
    average_bits: float | None = None
    checkpoint_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {
            "model": self.name,
            "model_hash": self.hash,
            "method": self.method,
            "options": dict(self.options),
            "calibration": dict(self.calibration),
            "source": self.source,
            "parameters": self.parameters,
            "average_bits": self.average_bits,
            "checkpoint_bytes": self.checkpoint_bytes,
        }


CHANCE = ModelCard("chance", method="chance")


@dataclass(frozen=True)
class Figures:
    """What one model scored.

    Attributes:
        card: the model.
        summary: its metrics with intervals.
        results: what the summary summarizes, one a scene.
    """

    card: ModelCard
    summary: Summary
    results: tuple[SceneResult, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {**self.card.to_json(), **self.summary.to_json()}


@dataclass(frozen=True)
class Measured:
    """What the figures were measured on.

    Attributes:
        dataset: a key of DATASETS.
        split: of the dataset.
        frames: how frames were chosen, in words.
        frames_per_scene: least and largest number of frames of a scene.
        seed: of the choice of frames and scenes.
        landmarks: of rooms; None for other datasets.
        image_size_px: width of the model's images.
        machine: device, compute mode, threads and versions.
    """

    dataset: str
    split: str
    frames: str
    frames_per_scene: tuple[int, int]
    seed: int
    landmarks: float | None
    image_size_px: int
    machine: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "landmarks": self.landmarks,
            "frames": self.frames,
            "frames_per_scene": list(self.frames_per_scene),
            "seed": self.seed,
            "image_size_px": self.image_size_px,
            "machine": dict(self.machine),
        }


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of one model, and what stands beside it.

    Attributes:
        model: the model's figures.
        on: what was measured.
        baseline: another model's figures on the same frames.
        chance: what ``chance_prediction`` scores on them.
        fidelity: the model against a float model, whose name it carries in ``fidelity_to``.
        fidelity_to: the float model.
        notes: scene -> why some of its values are missing or infinite.
        stored: how many results were there before.
    """

    model: Figures
    on: Measured
    baseline: Figures | None = None
    chance: Figures | None = None
    fidelity: Figures | None = None
    fidelity_to: ModelCard | None = None
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stored: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        fidelity = None
        if self.fidelity is not None and self.fidelity_to is not None:
            fidelity = {"to": self.fidelity_to.to_json(), **self.fidelity.summary.to_json()}
        return {
            "model": self.model.card.name,
            **self.on.to_json(),
            **self.model.to_json(),
            "baseline": None if self.baseline is None else self.baseline.to_json(),
            "chance": None if self.chance is None else self.chance.to_json(),
            "fidelity": fidelity,
            "notes": {scene: list(notes) for scene, notes in self.notes.items()},
        }
