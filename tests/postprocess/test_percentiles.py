"""Percentiles part by part equal numpy's of all values together, to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qvggt.postprocess.percentiles import percentiles

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
values = arrays.arrays(np.float32, st.integers(1, 200), elements=finite | st.sampled_from((0.0, -1.0, 1.5)))
DEEP = np.random.default_rng(0).gamma(2, 3, 100_001).astype(np.float32)


@pytest.mark.filterwarnings("ignore:overflow|invalid value")
@given(values, st.lists(st.floats(0, 100), min_size=1, max_size=3), st.integers(1, 50))
def test_percentiles__equal_numpy(array, percents, step):
    cut = [array[start : start + step] for start in range(0, len(array), step)]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(percentiles(lambda: cut, percents), np.percentile(array, percents))
        assert percentiles(lambda: cut, percents[0]) == np.percentile(array, percents[0])
        assert percentiles(lambda: cut, percents[0], lower=True) == np.percentile(array, percents[0], method="lower")


@pytest.mark.parametrize("percents", [(2, 98), (25,), (0, 50, 100)])
def test_percentiles__equal_numpy_on_many_values(percents):
    found = percentiles(lambda: np.array_split(DEEP, 7), percents)
    np.testing.assert_array_equal(found, np.percentile(DEEP, percents))
    for percent in (percents[0] + 0.3, 25.0, 75):
        assert percentiles(lambda: np.array_split(DEEP, 7), percent) == np.percentile(DEEP, percent)


def test_percentiles__float64_is_not_rounded():
    exact = DEEP.astype(np.float64) + 1e-12
    assert percentiles(lambda: [exact], (30.0,)) == np.percentile(exact, 30)


def test_percentiles__of_nothing_are_none():
    assert percentiles(lambda: [DEEP[:0]], (50,)) is None
    assert percentiles(lambda: [DEEP[:0]], 50, lower=True) is None
