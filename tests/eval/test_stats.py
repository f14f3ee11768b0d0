"""Laws of pooling, bootstrap intervals, and paired differences between models."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.eval.metrics.pose import auc
from qvggt.eval.results import SceneResult
from qvggt.eval.stats import (
    grouped_mean,
    paired_difference,
    percentile_interval,
    resample_counts,
    summarize,
    summarize_runs,
)


def result(scene: str, errors=(), group: str = "", **values: float) -> SceneResult:
    errors = tuple(float(e) for e in errors)
    return SceneResult(scene, group, ("p",), 3, errors, errors, values)


def many(count: int, seed: int = 0) -> list[SceneResult]:
    rng = np.random.default_rng(seed)
    return [
        result(f"s{k:03}", rng.exponential(10, 6), "ab"[k % 2], absrel=float(rng.uniform(0.05, 0.2)))
        for k in range(count)
    ]


def test_summarize_pools_pairs_in_a_group_and_averages_groups():
    a1, a2, b = [0.5, 40.0], [0.5, 0.5, 40.0, 40.0], [10.5]
    summary = summarize([result("1", a1, "a"), result("2", a2, "a"), result("3", b, "b")])
    expected = (auc(np.array(a1 + a2), 30) + auc(np.array(b), 30)) / 2
    assert summary.metrics["auc30"] == pytest.approx(expected)
    assert summary.metrics["rra5"] == pytest.approx((50 + 0) / 2)
    assert summary.metrics["rotation_deg"] == pytest.approx((np.mean(a1 + a2) + 10.5) / 2)
    assert (summary.scenes, summary.pairs) == (3, 7)


def test_summarize_takes_plain_means_of_values():
    summary = summarize(
        [result("1", (), "a", absrel=1.0), result("2", (), "a", absrel=2.0), result("3", (), "b", absrel=6.0)]
    )
    assert summary.metrics == {"absrel": pytest.approx(3.0)}
    assert summary.pairs == 0


def test_summarize_counts_nan_pairs_as_wrong():
    summary = summarize([result("1", [0.0, math.nan])])
    assert summary.metrics["auc30"] == summary.metrics["rra30"] == summary.metrics["rta3"] == 50
    assert summary.metrics["rotation_deg"] == 90
    assert summary.metrics["translation_deg"] == 45


def test_summarize_leaves_out_scenes_without_ground_truth_and_counts_them():
    summary = summarize([result("1", absrel=0.1), result("2", absrel=math.nan)])
    assert summary.metrics["absrel"] == pytest.approx(0.1)
    assert summary.unmeasured == {"absrel": 1}
    nothing = summarize([result("2", absrel=math.nan)])
    assert math.isnan(nothing.metrics["absrel"])
    assert math.isnan(nothing.intervals["absrel"][0])


def test_summarize_shows_an_infinite_scene_in_mean_and_interval():
    summary = summarize([result(str(k), absrel=0.1) for k in range(5)] + [result("bad", absrel=math.inf)])
    assert summary.metrics["absrel"] == math.inf
    low, high = summary.intervals["absrel"]
    assert low == pytest.approx(0.1)
    assert high == math.inf


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(5, 40))
def test_summarize_intervals_contain_the_estimate_in_any_order_of_scenes(seed, count):
    results = many(count, seed)
    summary = summarize(results, resamples=400)
    for name, (low, high) in summary.intervals.items():
        assert low - 1e-9 <= summary.metrics[name] <= high + 1e-9, name
    assert summarize(results[::-1], resamples=400) == summary


def test_summarize_intervals_depend_on_the_seed_only():
    results = many(30)
    assert summarize(results, seed=1) == summarize(results, seed=1)
    assert summarize(results, seed=1).intervals != summarize(results, seed=2).intervals
    assert summarize(results, seed=1).metrics == summarize(results, seed=2).metrics


def test_summarize_intervals_narrow_with_more_scenes():
    widths = [np.subtract(*summarize(many(count)).intervals["absrel"][::-1]) for count in (10, 200)]
    assert widths[1] < widths[0] / 2


def test_summarize_interval_is_about_two_standard_errors_each_way():
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    summary = summarize([result(str(k), x=float(v)) for k, v in enumerate(values)])
    low, high = summary.intervals["x"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_summary_is_standard_json():
    summary = summarize([*many(4), result("bad", [1.0], absrel=math.inf)])
    stored = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert stored["protocol"] == "p"
    assert stored["metrics"]["absrel"] == "inf"
    assert set(stored["metrics"]) == set(stored["intervals"])
    assert {"auc30", "auc15", "auc5", "auc3", "rra5", "rta5"} <= set(stored["metrics"])


def test_summarize_refuses_no_scenes_duplicates_and_mixed_protocols():
    with pytest.raises(ValueError, match="got none"):
        summarize([])
    with pytest.raises(ValueError, match="twin more than once"):
        summarize([result("twin"), result("other"), result("twin")])
    with pytest.raises(ValueError, match="same protocols"):
        summarize([result("1"), SceneResult("2", "", ("q",), 3)])


def test_resample_counts_sum_to_the_number_of_scenes():
    counts = resample_counts(7, 50, 0)
    assert counts.shape == (50, 7)
    assert (counts.sum(1) == 7).all()
    with pytest.raises(ValueError, match="at least one scene"):
        resample_counts(0, 5, 0)


def test_grouped_mean_leaves_out_a_group_that_a_resample_misses():
    counts = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    means = grouped_mean(counts, np.array([3.0, 8.0]), np.array([1.0, 2.0]), np.array([0, 1]))
    np.testing.assert_allclose(means, [3.5, 3.0, np.nan])
    assert percentile_interval(means) == (3.0, 3.5)


def run(seed, scenes=12, pairs=6, shift=0.0, shared=0):
    """Return a run whose errors are those of ``shared`` times a factor, a little disturbed by ``seed``."""
    common, own = np.random.default_rng(shared), np.random.default_rng([seed, 77])
    results = []
    for index in range(scenes):
        scale = np.exp(shift + 0.02 * own.normal(size=(2, pairs)))
        rotation, translation = common.gamma(2, 5, (2, pairs)) * scale
        values = {"absrel": float(common.gamma(3, 0.02) * np.exp(shift))}
        place = SceneResult(f"scene/{index}", f"group{index % 2}", ("p",), 4, tuple(rotation), tuple(translation))
        results.append(replace(place, values=values))
    return results


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), scenes=st.integers(1, 8))
def test_summarize_runs_of_one_run_equals_summarize(seed, scenes):
    results = run(seed, scenes)
    summary = summarize(results, 100)
    assert summarize_runs([results], 100) == summary
    assert summarize_runs([results, results], 100).metrics == pytest.approx(summary.metrics)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-1, 1))
def test_paired_difference_is_that_of_the_summaries_and_antisymmetric(seed, shift):
    ours, theirs = run(seed, shift=shift), run(seed + 1)
    found, back = paired_difference([ours], theirs, 100), paired_difference([theirs], ours, 100)
    means = [summarize(results, 1).metrics for results in (ours, theirs)]
    for name, value in found.metrics.items():
        assert value == pytest.approx(means[0][name] - means[1][name])
        low, high = found.intervals[name]
        assert low <= high
        assert back.metrics[name] == -value
    assert paired_difference([ours], ours, 100).intervals["auc30"] == (0, 0)


def test_paired_difference_removes_the_spread_between_scenes():
    ours, theirs = run(1, 40, shift=0.05), run(2, 40)
    low, high = paired_difference([ours], theirs).intervals["auc30"]
    alone = summarize(ours).intervals["auc30"]
    assert high < 0
    assert high - low < 0.3 * (alone[1] - alone[0])


def test_paired_difference_ignores_the_order_of_scenes():
    ours, theirs = run(1), run(2)
    assert paired_difference([ours[::-1]], theirs) == paired_difference([ours], theirs[::-1])
    assert summarize_runs([ours[::-1], theirs]) == summarize_runs([ours, theirs])


def test_summarize_runs_weights_all_runs_equally():
    runs, base = [run(1, shift=0.2), run(2, shift=-0.1), run(3)], run(4)
    mean = summarize_runs(runs)
    each = [summarize(one) for one in runs]
    assert mean.metrics["auc30"] == pytest.approx(np.mean([one.metrics["auc30"] for one in each]))
    assert mean.intervals["auc30"][0] < mean.metrics["auc30"] < mean.intervals["auc30"][1]
    difference = paired_difference(runs, base)
    assert difference.metrics["auc30"] == pytest.approx(mean.metrics["auc30"] - summarize(base).metrics["auc30"])


def test_paired_difference_of_infinite_and_missing_values():
    ours, theirs = run(1), run(2)
    ours[0] = replace(ours[0], values={"absrel": float("inf")})
    theirs[1] = replace(theirs[1], values={"absrel": float("nan")})
    difference = paired_difference([ours], theirs)
    assert difference.metrics["absrel"] == float("inf")
    assert difference.to_json()["metrics"]["absrel"] == "inf"
    assert summarize_runs([theirs, theirs]).unmeasured == {"absrel": 1}
    assert np.isnan(paired_difference([ours], ours).metrics["absrel"])


def test_summarize_runs_refuses_other_scenes_or_protocols():
    with pytest.raises(ValueError, match="same scenes"):
        paired_difference([run(1, 3)], run(1, 4))
    with pytest.raises(ValueError, match="same scenes"):
        summarize_runs([])
    with pytest.raises(ValueError, match="at least one run"):
        paired_difference([], run(1))
    with pytest.raises(ValueError, match="same protocols"):
        summarize_runs([run(1), [replace(result, protocols=("q",)) for result in run(1)]])
