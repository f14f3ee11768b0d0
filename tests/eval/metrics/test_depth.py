"""Laws of depth alignment and errors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.eval.metrics.depth import depth_errors, depth_errors_per_image, fit_depth, resize_bicubic


def depths(seed: int, shape=(3, 12, 10)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 5, shape)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 20))
@pytest.mark.parametrize("alignment", ["scale", "scale_shift", "median"])
def test_a_scaled_prediction_is_perfect(alignment, seed, scale):
    truth = depths(seed)
    errors = depth_errors(truth / scale, truth, np.ones(truth.shape, bool), alignment)
    assert errors.absrel == pytest.approx(0, abs=1e-9)
    assert errors.delta1 == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(-10, 10).filter(lambda s: abs(s) > 0.05), st.floats(-3, 3))
def test_scale_shift_recovers_an_affine_change(seed, scale, shift):
    truth = depths(seed).ravel()
    found = fit_depth((truth - shift) / scale, truth, "scale_shift")
    np.testing.assert_allclose(found, (scale, shift), atol=1e-7)


@pytest.mark.parametrize(("alignment", "shift"), [("scale", 0.0), ("scale_shift", 0.7)])
def test_the_l1_fit_shrugs_off_outliers(alignment, shift):
    predicted = depths(1).ravel()
    truth = 2 * predicted + shift
    truth[::8] += 50
    found = fit_depth(predicted, truth, alignment)
    least_squares = (predicted @ truth) / (predicted @ predicted)
    assert found == pytest.approx((2.0, shift), abs=0.02)
    assert abs(least_squares - 2) > 1


def test_errors_by_hand():
    truth = np.array([1.0, 2.0, 4.0, 0.0])
    predicted = np.array([1.0, 2.0, 6.0, 9.0])
    errors = depth_errors(predicted, truth, np.ones(4, bool), "median")  # medians 2 and 2, the truth of 0 left out
    assert errors.absrel == pytest.approx(0.5 / 3)
    assert errors.delta1 == pytest.approx(2 / 3)


def test_delta_is_strict_and_negative_depth_is_wrong():
    truth = np.ones(5)
    predicted = np.array([1.0, 1.0, 1.0, 1.25, -1.0])
    assert depth_errors(predicted, truth, np.ones(5, bool), "median").delta1 == pytest.approx(3 / 5)


def test_what_is_not_finite_scores_worst():
    truth = depths(0)
    predicted = truth.copy()
    predicted[0, 0, 0] = np.nan
    errors = depth_errors(predicted, truth, np.ones(truth.shape, bool), "scale")
    assert errors.absrel == math.inf
    assert errors.delta1 == pytest.approx(1 - 1 / truth.size)
    assert depth_errors(truth * np.nan, truth, np.ones(truth.shape, bool), "scale").delta1 == 0
    predicted_outside = depth_errors(predicted, truth, np.isfinite(predicted), "scale")
    assert predicted_outside.absrel == pytest.approx(0)


def test_nothing_to_measure_is_nan():
    errors = depth_errors(depths(0), depths(0), np.zeros((3, 12, 10), bool), "scale")
    assert math.isnan(errors.absrel)
    assert math.isnan(errors.delta1)


@pytest.mark.parametrize("alignment", ["scale", "scale_shift", "median"])
@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_a_constant_prediction_gives_a_finite_error(alignment, constant):
    truth = depths(2)
    errors = depth_errors(np.full(truth.shape, constant), truth, np.ones(truth.shape, bool), alignment)
    assert 0 < errors.absrel <= 1


def test_per_image_forgives_a_scale_of_each_image():
    truth = depths(3)
    predicted = truth * np.array([0.5, 1, 3])[:, None, None]
    mask = np.ones(truth.shape, bool)
    mask[2] = False
    images = depth_errors_per_image(predicted, truth, mask, "scale")
    assert images[0].absrel == pytest.approx(0, abs=1e-9)
    assert math.isnan(images[2].absrel)
    assert depth_errors(predicted, truth, np.ones(truth.shape, bool), "scale").absrel > 0.1


def test_resizing_keeps_lines_and_equal_sizes():
    ramp = np.broadcast_to(np.linspace(1, 2, 16), (2, 12, 16)).copy()
    assert resize_bicubic(ramp, (12, 16)) is ramp
    large = resize_bicubic(ramp, (24, 32))
    assert large.shape == (2, 24, 32)
    # Pixel centers are at one half; this kernel (a = -0.75) keeps a line to a tenth of its step.
    expected = 1 + ((np.arange(32) + 0.5) / 2 - 0.5) / 15
    np.testing.assert_allclose(large[0, 5, 6:-6], expected[6:-6], atol=0.1 / 15)


def test_wrong_input_says_what_came():
    with pytest.raises(ValueError, match="equal shapes"):
        depth_errors(np.ones((2, 2)), np.ones((2, 3)), np.ones((2, 3), bool), "scale")
    with pytest.raises(ValueError, match="'mean'"):
        fit_depth(np.ones(3), np.ones(3), "mean")
    with pytest.raises(ValueError, match="N > 0"):
        fit_depth(np.ones(0), np.ones(0), "scale")
    with pytest.raises(ValueError, match=r"\[S, H, W\]"):
        resize_bicubic(np.ones((3, 3)), (6, 6))
