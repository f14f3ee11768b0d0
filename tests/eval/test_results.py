"""Laws of pooling, summaries and bootstrap intervals."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.eval.bootstrap import grouped_mean, percentile_interval, resample_counts
from qvggt.eval.metrics.pose import auc
from qvggt.eval.results import SceneResult, summarize


def result(scene: str, errors=(), group: str = "", **values: float) -> SceneResult:
    errors = tuple(float(e) for e in errors)
    return SceneResult(scene, group, ("p",), 3, errors, errors, values)


def many(count: int, seed: int = 0) -> list[SceneResult]:
    rng = np.random.default_rng(seed)
    return [
        result(f"s{k:03}", rng.exponential(10, 6), "ab"[k % 2], absrel=float(rng.uniform(0.05, 0.2)))
        for k in range(count)
    ]


def test_pairs_pool_in_a_group_and_groups_average():
    a1, a2, b = [0.5, 40.0], [0.5, 0.5, 40.0, 40.0], [10.5]
    summary = summarize([result("1", a1, "a"), result("2", a2, "a"), result("3", b, "b")])
    expected = (auc(np.array(a1 + a2), 30) + auc(np.array(b), 30)) / 2
    assert summary.metrics["auc30"] == pytest.approx(expected)
    assert summary.metrics["rra5"] == pytest.approx((50 + 0) / 2)
    assert summary.metrics["rotation_deg"] == pytest.approx((np.mean(a1 + a2) + 10.5) / 2)
    assert (summary.scenes, summary.pairs) == (3, 7)


def test_values_are_plain_means_whatever_the_group():
    summary = summarize(
        [result("1", (), "a", absrel=1.0), result("2", (), "a", absrel=2.0), result("3", (), "b", absrel=6.0)]
    )
    assert summary.metrics == {"absrel": pytest.approx(3.0)}
    assert summary.pairs == 0


def test_pairs_that_are_nan_count_as_wrong():
    summary = summarize([result("1", [0.0, math.nan])])
    assert summary.metrics["auc30"] == summary.metrics["rra30"] == summary.metrics["rta3"] == 50
    assert summary.metrics["rotation_deg"] == 90
    assert summary.metrics["translation_deg"] == 45


def test_scenes_without_anything_to_measure_are_left_out_and_counted():
    summary = summarize([result("1", absrel=0.1), result("2", absrel=math.nan)])
    assert summary.metrics["absrel"] == pytest.approx(0.1)
    assert summary.unmeasured == {"absrel": 1}
    nothing = summarize([result("2", absrel=math.nan)])
    assert math.isnan(nothing.metrics["absrel"])
    assert math.isnan(nothing.intervals["absrel"][0])


def test_one_broken_scene_shows_in_the_mean_and_the_interval():
    summary = summarize([result(str(k), absrel=0.1) for k in range(5)] + [result("bad", absrel=math.inf)])
    assert summary.metrics["absrel"] == math.inf
    low, high = summary.intervals["absrel"]
    assert low == pytest.approx(0.1)
    assert high == math.inf


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(5, 40))
def test_intervals_contain_the_estimate_and_do_not_depend_on_order(seed, count):
    results = many(count, seed)
    summary = summarize(results, resamples=400)
    for name, (low, high) in summary.intervals.items():
        assert low - 1e-9 <= summary.metrics[name] <= high + 1e-9, name
    assert summarize(results[::-1], resamples=400) == summary


def test_the_seed_decides_the_interval():
    results = many(30)
    assert summarize(results, seed=1) == summarize(results, seed=1)
    assert summarize(results, seed=1).intervals != summarize(results, seed=2).intervals
    assert summarize(results, seed=1).metrics == summarize(results, seed=2).metrics


def test_intervals_narrow_with_more_scenes():
    widths = [np.subtract(*summarize(many(count)).intervals["absrel"][::-1]) for count in (10, 200)]
    assert widths[1] < widths[0] / 2


def test_the_interval_is_about_two_standard_errors_each_way():
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    summary = summarize([result(str(k), x=float(v)) for k, v in enumerate(values)])
    low, high = summary.intervals["x"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_results_survive_json_to_the_bit():
    before = SceneResult(
        "s",
        "g",
        ("pose-standard",),
        3,
        (0.1, math.nan),
        (1 / 3, math.nan),
        {"absrel": math.inf, "x": math.nan},
        ("why",),
    )
    text = json.dumps(before.to_json(), allow_nan=False)
    after = SceneResult.from_json(json.loads(text))
    assert repr(after) == repr(before)
    assert json.dumps(after.to_json()) == text


def test_a_summary_is_standard_json():
    summary = summarize([*many(4), result("bad", [1.0], absrel=math.inf)])
    stored = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert stored["protocol"] == "p"
    assert stored["metrics"]["absrel"] == "inf"
    assert set(stored["metrics"]) == set(stored["intervals"])
    assert {"auc30", "auc15", "auc5", "auc3", "rra5", "rta5"} <= set(stored["metrics"])


def test_tables_of_nothing_twice_or_mixed_are_refused():
    with pytest.raises(ValueError, match="got none"):
        summarize([])
    with pytest.raises(ValueError, match="twin more than once"):
        summarize([result("twin"), result("other"), result("twin")])
    with pytest.raises(ValueError, match="same protocols"):
        summarize([result("1"), SceneResult("2", "", ("q",), 3)])


def test_resamples_draw_as_many_scenes_as_there_are():
    counts = resample_counts(7, 50, 0)
    assert counts.shape == (50, 7)
    assert (counts.sum(1) == 7).all()
    with pytest.raises(ValueError, match="at least one scene"):
        resample_counts(0, 5, 0)


def test_a_group_that_a_resample_misses_is_left_out():
    counts = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    means = grouped_mean(counts, np.array([3.0, 8.0]), np.array([1.0, 2.0]), np.array([0, 1]))
    np.testing.assert_allclose(means, [3.5, 3.0, np.nan])
    assert percentile_interval(means) == (3.0, 3.5)
