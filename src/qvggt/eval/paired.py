"""Models on the same scenes: the mean over several of them, and differences that the scenes' own spread cancels in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qvggt.eval.bootstrap import grouped_mean, percentile_interval, resample_counts
from qvggt.eval.results import SceneResult, Summary, scene_columns, summarize, to_json_number

Run = Sequence[SceneResult]
"""What one model scored, one result a scene."""


@dataclass(frozen=True)
class Difference:
    """By how much metrics are higher than those of a reference on the same scenes, with paired 95 % intervals.

    Attributes:
        metrics: difference of each; NaN where one of the two has none, or both are infinite.
        intervals: [low, high] of each: both models are resampled by the same scenes.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values; NaN is null, infinity a string."""
        return {
            "metrics": {name: to_json_number(x) for name, x in self.metrics.items()},
            "intervals": {name: [to_json_number(x) for x in pair] for name, pair in self.intervals.items()},
        }


def summarize_runs(runs: Sequence[Run], resamples: int = 2000, seed: int = 0) -> Summary:
    """Summarize the mean over several models, such as those of several seeds, on the same scenes.

    Intervals tell what other scenes would change, not what other models would. One model's summary is ``summarize``'s.

    Args:
        runs: at least one.
        resamples: bootstrap samples over scenes.
        seed: of the bootstrap.

    Raises:
        ValueError: there is nothing to summarize, or the runs are not of the same scenes and protocols.
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
    return Summary(first.protocols, scenes, first.pairs, metrics, intervals, unmeasured)


def paired_difference(runs: Sequence[Run], reference: Run, resamples: int = 2000, seed: int = 0) -> Difference:
    """Return the mean over models minus a reference model, on the same scenes.

    Args:
        runs: of one model or several.
        reference: of the model that is subtracted.
        resamples: bootstrap samples over scenes; each draws the same scenes for all models.
        seed: of the bootstrap.

    Raises:
        ValueError: there is nothing to compare, or the runs are not of the same scenes.
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


def _differences(runs: Sequence[Run], reference: Run, counts: np.ndarray) -> dict[str, np.ndarray]:
    ours, theirs = _means(runs, counts), _means([reference], counts)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is nothing that could be said
        return {name: ours[name] - theirs[name] for name in ours if name in theirs}


def _means(runs: Sequence[Run], counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the mean over runs of every metric [B] that all of them have, for each resample [B, N]."""
    tables = [scene_columns(run) for run in runs]
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    return {name: np.mean([grouped_mean(counts, *table[name]) for table in tables], axis=0) for name in shared}


def _same_scenes(runs: Sequence[Run]) -> list[list[SceneResult]]:
    """Return the runs with their scenes in order."""
    ordered = [sorted(run, key=lambda result: result.scene) for run in runs]
    names = {tuple(result.scene for result in run) for run in ordered}
    if len(names) != 1 or names == {()}:
        raise ValueError(f"expected runs of the same scenes, got {len(names)} different lists of them")
    return ordered
