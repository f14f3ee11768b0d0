"""What one scene scored, and how scores become a table: pooling, plain means, bootstrap intervals over scenes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from qvggt.eval.bootstrap import grouped_mean, percentile_interval, resample_counts
from qvggt.eval.metrics.pose import THRESHOLDS_DEG, PairErrors, auc_credit


@dataclass(frozen=True)
class SceneResult:
    """Everything that a table needs of one scene, small enough to keep for thousands of them.

    Pairs are kept one by one, because pose metrics pool pairs over the scenes of a group.

    Attributes:
        scene: name, unique in a table.
        group: the pool of its pairs (a CO3D category, for example).
        protocols: names of the protocols that were measured.
        frames: number of frames.
        rotation_deg: error of every pair of frames, 0..180, NaN where the prediction was not finite.
        translation_deg: the same for the direction of translation, 0..90.
        values: one number a metric; NaN where the scene has nothing to measure, infinite where the prediction was not
            finite.
        notes: why a value is NaN or infinite, one sentence each.
    """

    scene: str
    group: str
    protocols: tuple[str, ...]
    frames: int
    rotation_deg: tuple[float, ...] = ()
    translation_deg: tuple[float, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that any JSON reader takes: NaN is null and infinity the string ``inf``."""
        return {
            "scene": self.scene,
            "group": self.group,
            "protocols": list(self.protocols),
            "frames": self.frames,
            "rotation_deg": [to_json_number(x) for x in self.rotation_deg],
            "translation_deg": [to_json_number(x) for x in self.translation_deg],
            "values": {name: to_json_number(x) for name, x in self.values.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SceneResult:
        """Return the result that ``to_json`` wrote, to the bit."""
        return cls(
            scene=stored["scene"],
            group=stored["group"],
            protocols=tuple(stored["protocols"]),
            frames=stored["frames"],
            rotation_deg=tuple(_from_json_number(x) for x in stored["rotation_deg"]),
            translation_deg=tuple(_from_json_number(x) for x in stored["translation_deg"]),
            values={name: _from_json_number(x) for name, x in stored["values"].items()},
            notes=tuple(stored["notes"]),
        )


@dataclass(frozen=True)
class Summary:
    """Metrics of a data set with 95 % bootstrap intervals over its scenes.

    Attributes:
        protocols: names of the protocols.
        scenes: number of scenes.
        pairs: number of pairs of frames.
        metrics: ``auc30`` .. ``auc3``, ``rra30`` .., ``rta30`` .. in 0..100; ``rotation_deg`` and ``translation_deg``,
            means over pairs; and the mean of every value of the scenes (``absrel``, ``accuracy``, ...).
        intervals: [low, high] of each.
        unmeasured: for each metric that some scenes could not give, how many.
    """

    protocols: tuple[str, ...]
    scenes: int
    pairs: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    unmeasured: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the part of an evaluation's JSON that follows from the scenes; NaN is null, infinity ``inf``."""
        return {
            "protocol": ", ".join(self.protocols),
            "scenes": self.scenes,
            "pairs": self.pairs,
            "metrics": {name: to_json_number(x) for name, x in self.metrics.items()},
            "intervals": {name: [to_json_number(x) for x in pair] for name, pair in self.intervals.items()},
            "unmeasured": dict(self.unmeasured),
        }


def summarize(results: Iterable[SceneResult], resamples: int = 2000, seed: int = 0) -> Summary:
    """Summarize the scenes of one data set and one set of protocols.

    Pose metrics pool the pairs of a group's scenes and average over groups; all others are plain means over the scenes
    that have something to measure. The order of the results does not matter: not even in the last digit.

    Args:
        results: one a scene, of the same protocols.
        resamples: bootstrap samples; each draws as many scenes as there are, with replacement.
        seed: of the bootstrap.

    Raises:
        ValueError: if nothing is given, a scene comes twice, or protocols differ.
    """
    ordered = sorted(results, key=lambda result: result.scene)
    _check_one_table(ordered)
    counts = resample_counts(len(ordered), resamples, seed)
    everything = np.ones((1, len(ordered)))
    metrics, intervals, unmeasured = {}, {}, {}
    for name, (sums, weights, groups) in scene_columns(ordered).items():
        metrics[name] = float(grouped_mean(everything, sums, weights, groups)[0])
        intervals[name] = percentile_interval(grouped_mean(counts, sums, weights, groups))
        if missing := int((weights == 0).sum()):
            unmeasured[name] = missing
    pairs = sum(len(result.rotation_deg) for result in ordered)
    return Summary(ordered[0].protocols, len(ordered), pairs, metrics, intervals, unmeasured)


def scene_columns(results: Sequence[SceneResult]) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return every metric as (sum, weight, pool) of each scene [N], in the order of the results.

    Inside a pool the metric is the sum of sums over the sum of weights; over pools it is the plain mean.
    """
    pools = np.unique([result.group for result in results], return_inverse=True)[1]
    one_pool = np.zeros(len(results), dtype=int)
    columns = {name: (*column, pools) for name, column in _pair_columns(results).items()}
    return columns | {name: (*column, one_pool) for name, column in _value_columns(results).items()}


Column = tuple[np.ndarray, np.ndarray]
"""A metric as (sum, weight) of every scene: pooled, it is the sum of sums over the sum of weights."""


def _pair_columns(results: Sequence[SceneResult]) -> dict[str, Column]:
    weights = np.array([len(result.rotation_deg) for result in results], dtype=float)
    if not weights.any():
        return {}
    rows = [
        _pair_credits(PairErrors(np.array(result.rotation_deg, float), np.array(result.translation_deg, float)))
        for result in results
    ]
    return {name: (np.array([row[name].sum() for row in rows]), weights) for name in rows[0]}


def _pair_credits(errors: PairErrors) -> dict[str, np.ndarray]:
    """What every pair adds to each pooled mean."""
    rotation, translation = errors.rotation_deg, errors.translation_deg
    credits = {f"auc{t}": 100 * auc_credit(errors.joint_deg, t) for t in THRESHOLDS_DEG}
    credits |= {f"rra{t}": 100.0 * (rotation < t) for t in THRESHOLDS_DEG}
    credits |= {f"rta{t}": 100.0 * (translation < t) for t in THRESHOLDS_DEG}
    # A pose that is not a number is as wrong as a pose can be.
    credits["rotation_deg"] = np.where(np.isnan(rotation), 180.0, rotation)
    credits["translation_deg"] = np.where(np.isnan(translation), 90.0, translation)
    return credits


def _value_columns(results: Sequence[SceneResult]) -> dict[str, Column]:
    names = dict.fromkeys(name for result in results for name in result.values)
    columns = {}
    for name in names:
        values = np.array([result.values.get(name, math.nan) for result in results], dtype=float)
        missing = np.isnan(values)
        columns[name] = (np.where(missing, 0.0, values), (~missing).astype(float))
    return columns


def _check_one_table(results: Sequence[SceneResult]) -> None:
    if not results:
        raise ValueError("expected at least one scene's result, got none")
    names = [result.scene for result in results]
    if twice := sorted({a for a, b in pairwise(names) if a == b}):
        raise ValueError(f"expected each scene once, got {', '.join(twice)} more than once")
    if len(protocols := {result.protocols for result in results}) > 1:
        raise ValueError(f"expected results of the same protocols, got {sorted(protocols)}")


def to_json_number(x: float) -> float | str | None:
    """Return a number as standard JSON holds it: NaN is null and infinity the string ``inf``."""
    if math.isnan(x):
        return None
    return float(x) if math.isfinite(x) else str(float(x))


def _from_json_number(stored: float | str | None) -> float:
    return math.nan if stored is None else float(stored)
