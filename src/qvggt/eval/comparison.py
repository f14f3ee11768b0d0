"""Results of a comparison of quantization methods: one row per method and width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qvggt.eval.report import EvaluationSetup, Figures
from qvggt.eval.results import to_json_number
from qvggt.eval.stats import Difference, Summary

FLOAT = "float"

HIGHER_IS_BETTER = ("auc", "rra", "rta", "delta", "normal_consistency")
"""Prefixes of metrics where higher is better, those of fidelity too; for all others lower is better."""

SAME_SIZE = 0.005
"""Relative difference up to which checkpoint sizes count as equal."""

_HEADLINES = ("auc30", "absrel", "point_error", "accuracy")


@dataclass(frozen=True)
class Trial:
    """One evaluated model.

    Attributes:
        figures: its metrics and the results of its scenes.
        seed: of its calibration; None without calibration.
        linear_bits: bits per weight over all linear layers, scales included.
        minutes: time that quantization took; None for the float model.
    """

    figures: Figures
    seed: int | None = None
    linear_bits: float | None = None
    minutes: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {
            "seed": self.seed,
            **self.figures.to_json(),
            "average_bits_linear": self.linear_bits,
            "minutes": self.minutes,
        }


@dataclass(frozen=True)
class ComparisonRow:
    """One method at one width, or the float model.

    Attributes:
        method: its name; ``float`` for the float model that the others were quantized from, in float32; ``bfloat16``
            or ``float16`` for the float model computing in that type.
        bits: requested width; None for the float model.
        trials: one per seed; empty if the method failed with every seed.
        summary: the mean over trials, with intervals over scenes; None without trials.
        difference: from the float model on the same scenes; None for the float model itself, or without trials.
        fidelity: pose metrics with the float model's cameras as the truth, ``fidelity_auc30`` and so on, the mean over
            trials; None for the float model itself, without trials, or if no protocol needs cameras.
        errors: why trials failed, one sentence each.
        optimal: whether the row is on the Pareto front of size and the report's headline metric.
    """

    method: str
    bits: int | None
    trials: tuple[Trial, ...]
    summary: Summary | None = None
    difference: Difference | None = None
    fidelity: Summary | None = None
    errors: tuple[str, ...] = ()
    optimal: bool = False

    @property
    def average_bits(self) -> float | None:
        """Bits of tensor data per parameter over all weights, averaged over trials."""
        return _mean([trial.figures.card.average_bits for trial in self.trials])

    @property
    def linear_bits(self) -> float | None:
        """Bits per weight over all linear layers, averaged over trials."""
        return _mean([trial.linear_bits for trial in self.trials])

    @property
    def checkpoint_bytes(self) -> int | None:
        """Size of the checkpoint, averaged over trials."""
        mean = _mean([trial.figures.card.checkpoint_bytes for trial in self.trials])
        return None if mean is None else round(mean)

    @property
    def minutes(self) -> float | None:
        """Minutes that quantization took, averaged over trials."""
        return _mean([trial.minutes for trial in self.trials])

    @property
    def seed_ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each metric over seeds; empty for fewer than two seeds."""
        tables = [trial.figures.summary.metrics for trial in self.trials]
        if len(tables) < 2:
            return {}
        return {name: (min(t[name] for t in tables), max(t[name] for t in tables)) for name in tables[0]}

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        found = {"metrics": {}, "intervals": {}} if self.summary is None else self.summary.to_json()
        return {
            "method": self.method,
            "bits": self.bits,
            "average_bits": self.average_bits,
            "average_bits_linear": self.linear_bits,
            "checkpoint_bytes": self.checkpoint_bytes,
            "minutes": self.minutes,
            "metrics": found["metrics"],
            "intervals": found["intervals"],
            "difference_to_float": None if self.difference is None else self.difference.to_json(),
            "fidelity": None if self.fidelity is None else self.fidelity.to_json(),
            "seed_ranges": {name: [to_json_number(x) for x in pair] for name, pair in self.seed_ranges.items()},
            "seeds": [trial.to_json() for trial in self.trials],
            "optimal": self.optimal,
            "errors": list(self.errors),
        }


@dataclass(frozen=True)
class ComparisonReport:
    """All rows of a comparison and what they have in common.

    Attributes:
        rows: the float model first, then in half-precision types, then by width, methods in the requested order.
        on: data and machine of all evaluations.
        quantization: options that all methods share, JSON-ready.
        chance: figures of chance on the same frames; None if it was not evaluated.
        reused: number of checkpoints that were read from the cache.
    """

    rows: tuple[ComparisonRow, ...]
    on: EvaluationSetup
    quantization: Mapping[str, Any] = field(default_factory=dict)
    chance: Figures | None = None
    reused: int = 0

    @property
    def float_row(self) -> ComparisonRow:
        """The float model's row."""
        return self.rows[0]

    @property
    def quantized(self) -> tuple[ComparisonRow, ...]:
        """The rows of methods."""
        return tuple(row for row in self.rows if row.bits is not None)

    @property
    def summary(self) -> Summary:
        """The float model's summary, whose protocols, scenes and pairs are those of all rows."""
        assert self.float_row.summary is not None
        return self.float_row.summary

    @property
    def headline(self) -> str:
        """The metric that models are ranked by: AUC@30 if poses are evaluated."""
        return headline(self.summary)

    def to_json(self) -> dict[str, Any]:
        """Return the rows, the data, the machine and the shared options as JSON-ready values."""
        summary, card = self.summary, self.float_row.trials[0].figures.card
        return {
            "model": card.name,
            "model_hash": card.hash,
            "parameters": card.parameters,
            **self.on.to_json(),
            "protocol": ", ".join(summary.protocols),
            "scenes": summary.scenes,
            "pairs": summary.pairs,
            "quantization": dict(self.quantization),
            "chance": None if self.chance is None else self.chance.summary.to_json()["metrics"],
            "rows": [row.to_json() for row in self.rows],
        }


def headline(summary: Summary) -> str:
    """Return the metric of a summary that models are ranked by."""
    return next((name for name in _HEADLINES if name in summary.metrics), next(iter(summary.metrics)))


def is_higher_better(metric: str) -> bool:
    """Return whether higher values of a metric are better.

    >>> is_higher_better("auc30"), is_higher_better("absrel")
    (True, False)
    """
    return metric.removeprefix("fidelity_").startswith(HIGHER_IS_BETTER)


def optimal_rows(rows: Sequence[ComparisonRow], metric: str) -> list[int]:
    """Return the indices of the rows on the Pareto front of size and a metric, smallest checkpoint first.

    A row is on it unless another row is at least as small and at least as good, and better in one of the two. Sizes
    within ``SAME_SIZE`` count as equal: such checkpoints differ in their recipes, not in their weights. Rows without
    figures are never on the front.
    """
    sign = -1.0 if is_higher_better(metric) else 1.0
    points = []
    for index, row in enumerate(rows):
        value = None if row.summary is None else row.summary.metrics.get(metric)
        if value is not None and value == value and row.checkpoint_bytes is not None:  # NaN differs from itself
            points.append((row.checkpoint_bytes, sign * value, index))

    def is_beaten(size: float, cost: float) -> bool:
        return any(
            other <= size * (1 + SAME_SIZE) and loss <= cost and (loss < cost or other < size * (1 - SAME_SIZE))
            for other, loss, _ in points
        )

    return [index for size, cost, index in sorted(points) if not is_beaten(size, cost)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
