"""Several models on the same scenes, and their distance from another one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.eval.paired import paired_difference, summarize_runs
from qvggt.eval.results import SceneResult, summarize


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


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scenes=st.integers(1, 8))
def test_one_run_is_summarized_as_ever(seed, scenes):
    results = run(seed, scenes)
    assert summarize_runs([results]) == summarize(results)
    assert summarize_runs([results, results]).metrics == pytest.approx(summarize(results).metrics)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-1, 1))
def test_differences_are_those_of_the_summaries_and_change_sign_with_the_reference(seed, shift):
    ours, theirs = run(seed, shift=shift), run(seed + 1)
    found, back = paired_difference([ours], theirs), paired_difference([theirs], ours)
    for name, value in found.metrics.items():
        assert value == pytest.approx(summarize(ours).metrics[name] - summarize(theirs).metrics[name])
        low, high = found.intervals[name]
        assert low <= high
        assert back.metrics[name] == -value
    assert paired_difference([ours], ours).intervals["auc30"] == (0, 0)


def test_pairing_takes_the_spread_of_scenes_out():
    ours, theirs = run(1, 40, shift=0.05), run(2, 40)
    low, high = paired_difference([ours], theirs).intervals["auc30"]
    alone = summarize(ours).intervals["auc30"]
    assert high < 0
    assert high - low < 0.3 * (alone[1] - alone[0])


def test_the_order_of_scenes_says_nothing():
    ours, theirs = run(1), run(2)
    assert paired_difference([ours[::-1]], theirs) == paired_difference([ours], theirs[::-1])
    assert summarize_runs([ours[::-1], theirs]) == summarize_runs([ours, theirs])


def test_several_runs_count_alike():
    runs, base = [run(1, shift=0.2), run(2, shift=-0.1), run(3)], run(4)
    mean = summarize_runs(runs)
    each = [summarize(one) for one in runs]
    assert mean.metrics["auc30"] == pytest.approx(np.mean([one.metrics["auc30"] for one in each]))
    assert mean.intervals["auc30"][0] < mean.metrics["auc30"] < mean.intervals["auc30"][1]
    difference = paired_difference(runs, base)
    assert difference.metrics["auc30"] == pytest.approx(mean.metrics["auc30"] - summarize(base).metrics["auc30"])


def test_infinite_and_missing_values():
    ours, theirs = run(1), run(2)
    ours[0] = replace(ours[0], values={"absrel": float("inf")})
    theirs[1] = replace(theirs[1], values={"absrel": float("nan")})
    difference = paired_difference([ours], theirs)
    assert difference.metrics["absrel"] == float("inf")
    assert difference.to_json()["metrics"]["absrel"] == "inf"
    assert summarize_runs([theirs, theirs]).unmeasured == {"absrel": 1}
    assert np.isnan(paired_difference([ours], ours).metrics["absrel"])


def test_other_scenes_or_protocols_are_refused():
    with pytest.raises(ValueError, match="same scenes"):
        paired_difference([run(1, 3)], run(1, 4))
    with pytest.raises(ValueError, match="same scenes"):
        summarize_runs([])
    with pytest.raises(ValueError, match="at least one run"):
        paired_difference([], run(1))
    with pytest.raises(ValueError, match="same protocols"):
        summarize_runs([run(1), [replace(result, protocols=("q",)) for result in run(1)]])
