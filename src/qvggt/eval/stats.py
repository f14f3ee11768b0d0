"""Statistics over scenes: pooled means, bootstrap intervals, and paired differences between models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from qvggt.eval.metrics.pose import THRESHOLDS_DEG, PairErrors, auc_credit
from qvggt.eval.results import FIDELITY, SceneResult, to_json_number

ModelResults = Sequence[SceneResult]
"""Results of one model, one per scene."""


@dataclass(frozen=True)
class Summary:
    """Metrics of a data set with 95 % bootstrap intervals over its scenes.

    Attributes:
        protocols: names of the protocols.
        scenes: number of scenes.
        pairs: number of pairs of frames.
        metrics: ``auc30`` .. ``auc3``, ``rra30`` .., ``rta30`` .. in 0..100; ``rotation_deg`` and ``translation_deg``,
            means over pairs; and the mean of every value of the scenes (``absrel``, ``accuracy``, ...). Of fidelity
            the shares are ``fidelity_auc30`` and so on, and the means of angles are over frames.
        intervals: [low, high] of each metric.
        unmeasured: metric -> number of scenes without it.
    """

    protocols: tuple[str, ...]
    scenes: int
    pairs: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    unmeasured: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values; NaN is null, infinity the string ``inf``."""
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
    that have them. The order of the results changes no digit.

    Args:
        results: one per scene, of the same protocols.
        resamples: bootstrap samples; each draws as many scenes as there are, with replacement.
        seed: of the bootstrap.

    Raises:
        ValueError: there is no result, a scene occurs twice, or protocols differ.
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
    return Summary(
        ordered[0].protocols,
        scenes=len(ordered),
        pairs=pairs,
        metrics=metrics,
        intervals=intervals,
        unmeasured=unmeasured,
    )


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
    pairs = [PairErrors(np.array(each.rotation_deg, float), np.array(each.translation_deg, float)) for each in results]
    if results[0].protocols == (FIDELITY,):
        rows = [{f"fidelity_{name}": credit for name, credit in _pair_shares(each).items()} for each in pairs]
    else:
        rows = [_pair_shares(each) | _pair_angles(each) for each in pairs]
    return {name: (np.array([row[name].sum() for row in rows]), weights) for name in rows[0]}


def _pair_shares(errors: PairErrors) -> dict[str, np.ndarray]:
    """Return each pair's contribution to each pooled share."""
    rotation, translation = errors.rotation_deg, errors.translation_deg
    credits = {f"auc{t}": 100 * auc_credit(errors.joint_deg, t) for t in THRESHOLDS_DEG}
    credits |= {f"rra{t}": 100.0 * (rotation < t) for t in THRESHOLDS_DEG}
    credits |= {f"rta{t}": 100.0 * (translation < t) for t in THRESHOLDS_DEG}
    return credits


def _pair_angles(errors: PairErrors) -> dict[str, np.ndarray]:
    """Return each pair's angles; a pose that is not finite counts as the largest error."""
    rotation, translation = errors.rotation_deg, errors.translation_deg
    return {
        "rotation_deg": np.where(np.isnan(rotation), 180.0, rotation),
        "translation_deg": np.where(np.isnan(translation), 90.0, translation),
    }


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


@dataclass(frozen=True)
class Difference:
    """Metrics minus those of a reference on the same scenes, with paired 95 % bootstrap intervals.

    Attributes:
        metrics: difference of each metric; NaN if one of the two is NaN, or both are infinite.
        intervals: [low, high] of each; each resample draws the same scenes for both models.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values; NaN is null, infinity a string."""
        return {
            "metrics": {name: to_json_number(x) for name, x in self.metrics.items()},
            "intervals": {name: [to_json_number(x) for x in pair] for name, pair in self.intervals.items()},
        }


def summarize_runs(runs: Sequence[ModelResults], resamples: int = 2000, seed: int = 0) -> Summary:
    """Summarize the mean over several models, such as those of several seeds, on the same scenes.

    Intervals show the variation over scenes, not over models. For one model the result equals that of ``summarize``.

    Args:
        runs: results of each model; at least one.
        resamples: bootstrap samples over scenes.
        seed: of the bootstrap.

    Raises:
        ValueError: there is no run, or the runs are not of the same scenes and protocols.
    """
    ordered = _same_scenes(runs)
    summaries = [summarize(run, resamples, seed) for run in ordered]
    first = summaries[0]
    if len(summaries) == 1:
        return first
    protocols = {summary.protocols for summary in summaries}
    if len(protocols) > 1:
        raise ValueError(f"expected runs of the same protocols, got {sorted(protocols)}")
    scenes = len(ordered[0])
    metrics = {name: float(mean[0]) for name, mean in _means(ordered, np.ones((1, scenes))).items()}
    replicates = _means(ordered, resample_counts(scenes, resamples, seed))
    intervals = {name: percentile_interval(values) for name, values in replicates.items()}
    counts = [summary.unmeasured for summary in summaries]
    unmeasured = {name: max(count.get(name, 0) for count in counts) for count in counts for name in count}
    return Summary(
        first.protocols, scenes=scenes, pairs=first.pairs, metrics=metrics, intervals=intervals, unmeasured=unmeasured
    )


def paired_difference(
    runs: Sequence[ModelResults], reference: ModelResults, resamples: int = 2000, seed: int = 0
) -> Difference:
    """Return the mean over models minus a reference model, on the same scenes.

    Args:
        runs: results of each model.
        reference: results of the model that is subtracted.
        resamples: bootstrap samples over scenes; each draws the same scenes for all models.
        seed: of the bootstrap.

    Raises:
        ValueError: there is no run, or the runs are not of the same scenes.
    """
    *ordered, base = _same_scenes([*runs, reference])
    if not ordered:
        raise ValueError("expected at least one run besides the reference, got none")
    scenes = len(base)
    whole = _differences(ordered, base, np.ones((1, scenes)))
    replicates = _differences(ordered, base, resample_counts(scenes, resamples, seed))
    return Difference(
        {name: float(values[0]) for name, values in whole.items()},
        {name: percentile_interval(values) for name, values in replicates.items()},
    )


def _differences(runs: Sequence[ModelResults], reference: ModelResults, counts: np.ndarray) -> dict[str, np.ndarray]:
    ours, theirs = _means(runs, counts), _means([reference], counts)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN
        return {name: ours[name] - theirs[name] for name in ours if name in theirs}


def _means(runs: Sequence[ModelResults], counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return, for each metric that all runs have, its mean over runs [B] for each resample [B, N]."""
    tables = [scene_columns(run) for run in runs]
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    return {name: np.mean([grouped_mean(counts, *table[name]) for table in tables], axis=0) for name in shared}


def _same_scenes(runs: Sequence[ModelResults]) -> list[list[SceneResult]]:
    """Return the runs sorted by scene, or raise if their scenes differ."""
    ordered = [sorted(run, key=lambda result: result.scene) for run in runs]
    names = {tuple(result.scene for result in run) for run in ordered}
    if len(names) != 1 or names == {()}:
        raise ValueError(f"expected runs of the same scenes, got {len(names)} different lists of them")
    return ordered


def resample_counts(scenes: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each resample draws each scene, [resamples, scenes] float64; every row sums to ``scenes``.

    Raises:
        ValueError: either number is below one.
    """
    if scenes < 1 or resamples < 1:
        raise ValueError(f"expected at least one scene and one resample, got {scenes} and {resamples}")
    drawn = np.random.default_rng(seed).integers(scenes, size=(resamples, scenes))
    rows = np.arange(resamples)[:, None] * scenes
    return np.bincount((drawn + rows).ravel(), minlength=resamples * scenes).reshape(resamples, scenes).astype(float)


def grouped_mean(counts: np.ndarray, sums: np.ndarray, weights: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return, for each resample, the mean over groups of each group's pooled mean.

    A group without a scene in a resample is left out of that resample's average.

    Args:
        counts: [B, N] how often each of N scenes is drawn.
        sums: [N] sum of the metric over a scene's items; may be infinite.
        weights: [N] number of items; 0 for a scene without items.
        groups: [N] integer group of each scene, 0..G-1.

    Returns:
        [B] means: NaN if no item was drawn, infinite if an infinite sum was.
    """
    infinite = ~np.isfinite(sums)
    member = groups[:, None] == np.arange(groups.max() + 1)  # [N, G]
    pooled = counts @ (np.where(infinite, 0.0, sums)[:, None] * member)  # [B, G]
    weight = counts @ (weights[:, None] * member)
    present = weight > 0
    means = np.divide(pooled, weight, out=np.zeros_like(pooled), where=present)
    with np.errstate(invalid="ignore"):
        mean = means.sum(1) / present.sum(1)
    return np.where(counts @ infinite > 0, np.inf, mean)


def percentile_interval(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval of replicates [B] at a level in 0..1; NaN replicates are left out.

    Bounds are never interpolated between two replicates, so that infinite replicates are allowed.
    """
    defined = replicates[~np.isnan(replicates)]
    if not defined.size:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)
