"""Results of an evaluation, with the model, data and machine that a fair comparison has to state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qvggt.eval.results import SceneResult
from qvggt.eval.stats import Summary


@dataclass(frozen=True)
class ModelCard:
    """Identity, provenance and size of a model.

    Attributes:
        name: as the user gave it.
        hash: of its weights, prefixed with the hash's name; of seeded weights, the name of their rule.
        method: of quantization; ``float`` for a float model.
        options: of the method.
        calibration: the data it was calibrated on; empty for none.
        source: the float model that was quantized, and its hash.
        parameters: of the float model; None for chance.
        average_bits: bits of tensor data per parameter; None for chance.
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
    """Metrics of one model.

    Attributes:
        card: the model.
        summary: its metrics with intervals.
        results: of the scenes, from which the summary was computed.
    """

    card: ModelCard
    summary: Summary
    results: tuple[SceneResult, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {**self.card.to_json(), **self.summary.to_json()}


@dataclass(frozen=True)
class EvaluationSetup:
    """Data and machine of an evaluation.

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
    """Figures of one model and of what it was compared with.

    Attributes:
        model: the model's figures.
        on: data and machine.
        baseline: another model's figures on the same frames.
        chance: figures of ``chance_prediction`` on them.
        fidelity: the model compared with the float model ``fidelity_to``.
        fidelity_to: the float model.
        notes: scene -> why some of its values are missing or infinite.
        stored: number of results that were read from the store.
    """

    model: Figures
    on: EvaluationSetup
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
