"""Results of a benchmark: a row per contender and number of frames, and ratios to the float model."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qvggt.bench.measurement import Measurement


@dataclass(frozen=True)
class BenchRow:
    """One contender at one number of frames.

    Attributes:
        model: its name as given.
        compute: arithmetic of packed layers, and whether tokens are merged.
        frames: number of images.
        size_px: width and height of the images.
        runs: one per repeat.
        checkpoint_bytes: size of the model's files; None if it has none.
        differences: by output, 2-norm of the difference from the float model's over the 2-norm of the float model's.
        error: why there are no runs.
    """

    model: str
    compute: str
    frames: int
    size_px: int
    runs: tuple[Measurement, ...] = ()
    checkpoint_bytes: int | None = None
    differences: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def seconds(self) -> float:
        """Median of the runs."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def load_seconds(self) -> float:
        """Median of the runs."""
        return statistics.median(run.load_seconds for run in self.runs)

    @property
    def peak_memory_bytes(self) -> int:
        """Median of the runs."""
        return round(statistics.median(run.peak_memory_bytes for run in self.runs))

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by part of the model, median of the runs."""
        return {name: statistics.median(run.parts[name] for run in self.runs) for name in self.runs[0].parts}

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        about: dict[str, Any] = {
            "model": self.model, "compute": self.compute, "frames": self.frames, "size_px": self.size_px,
            "checkpoint_bytes": self.checkpoint_bytes,
        }  # fmt: skip
        if not self.runs:
            return {**about, "error": self.error}
        times = [run.seconds for run in self.runs]
        return {
            **about,
            "seconds": self.seconds,
            "seconds_least": min(times),
            "seconds_most": max(times),
            "repeats": len(times),
            "load_seconds": self.load_seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
            "base_memory_bytes": round(statistics.median(run.base_memory_bytes for run in self.runs)),
            "weight_bytes": self.runs[0].weight_bytes,
            "parts_seconds": self.parts,
            "relative_differences": dict(self.differences),
        }


@dataclass(frozen=True)
class Ratio:
    """A contender against the reference model; above one is better.

    Attributes:
        model: the contender.
        compute: arithmetic of packed layers.
        frames: number of images.
        speedup: the reference's time over the contender's.
        memory_reduction: the reference's peak memory over the contender's.
        size_reduction: size of the reference's tensors over that of the contender's files; None if it has none.
    """

    model: str
    compute: str
    frames: int
    speedup: float
    memory_reduction: float
    size_reduction: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return vars(self).copy()


@dataclass(frozen=True)
class BenchReport:
    """A benchmark.

    Attributes:
        environment: the machine, JSON-ready.
        rows: the reference model first, at each number of frames.
        against: the reference model's name.
    """

    environment: Mapping[str, Any]
    rows: tuple[BenchRow, ...]
    against: str

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Every contender that ran against the reference model on as many frames."""
        base = {row.frames: row for row in reversed(self.rows) if row.model == self.against}
        pairs = [(row, base[row.frames]) for row in self.rows if row.frames in base]
        others = [(row, first) for row, first in pairs if row is not first and row.runs and first.runs]
        return tuple(ratio_of(row, first) for row, first in others)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {
            "environment": dict(self.environment),
            "against": self.against,
            "rows": [row.to_json() for row in self.rows],
            "ratios": [ratio.to_json() for ratio in self.ratios],
        }


def ratio_of(row: BenchRow, base: BenchRow) -> Ratio:
    """Return the ratios of a contender to another model at the same number of frames."""
    size = None if row.checkpoint_bytes is None else base.runs[0].weight_bytes / row.checkpoint_bytes
    return Ratio(
        row.model, compute=row.compute, frames=row.frames, speedup=base.seconds / row.seconds,
        memory_reduction=base.peak_memory_bytes / row.peak_memory_bytes, size_reduction=size,
    )  # fmt: skip


def relative_differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, float]:
    """Return, for every array, the 2-norm of the difference over the 2-norm of the expected one."""
    differences = {}
    for name, value in expected.items():
        size = float((value**2).sum()) ** 0.5
        differences[name] = float(((found[name] - value) ** 2).sum()) ** 0.5 / size if size else 0.0
    return differences
