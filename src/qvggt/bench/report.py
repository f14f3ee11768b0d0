"""What a benchmark found: a row for every contender and number of frames, and ratios to the float model."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qvggt.bench.job import Measured


@dataclass(frozen=True)
class BenchRow:
    """One contender at one number of frames.

    Attributes:
        model: as it was named.
        compute: how packed layers multiply, and that tokens are merged if they are.
        frames: images of the scene.
        size_px: width and height of the images.
        runs: one a repeat.
        checkpoint_bytes: of the model's files; None if it has none.
        differences: from the float model's answer, by output: 2-norm of the difference over that of the answer.
        error: why there are no runs.
    """

    model: str
    compute: str
    frames: int
    size_px: int
    runs: tuple[Measured, ...] = ()
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
    """A contender against the model that it is compared with; above one is better.

    Attributes:
        model: the contender.
        compute: how it multiplies.
        frames: images of the scene.
        speedup: how many times faster.
        memory_reduction: how many times less peak memory.
        size_reduction: how many times smaller than the other's tensors its files are; None where it has none.
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
        rows: the model that all are compared with first, at each number of frames.
        against: its name.
    """

    environment: Mapping[str, Any]
    rows: tuple[BenchRow, ...]
    against: str

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Every contender that ran against the model that ran on as many frames."""
        base = {row.frames: row for row in self.rows if row.model == self.against and row.runs}
        others = [row for row in self.rows if row.model != self.against and row.runs and row.frames in base]
        return tuple(ratio_of(row, base[row.frames]) for row in others)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {
            "environment": dict(self.environment),
            "against": self.against,
            "rows": [row.to_json() for row in self.rows],
            "ratios": [ratio.to_json() for ratio in self.ratios],
        }


def ratio_of(row: BenchRow, base: BenchRow) -> Ratio:
    """Return how a contender compares with another model at the same number of frames."""
    size = None if row.checkpoint_bytes is None else base.runs[0].weight_bytes / row.checkpoint_bytes
    return Ratio(
        row.model, compute=row.compute, frames=row.frames, speedup=base.seconds / row.seconds,
        memory_reduction=base.peak_memory_bytes / row.peak_memory_bytes, size_reduction=size,
    )  # fmt: skip


def relative_differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, float]:
    """Return the 2-norm of the difference of every array over that of the expected one."""
    differences = {}
    for name, value in expected.items():
        size = float((value**2).sum()) ** 0.5
        differences[name] = float(((found[name] - value) ** 2).sum()) ** 0.5 / size if size else 0.0
    return differences
