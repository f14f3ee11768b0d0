"""Laws of cloud distances and normals."""

import math

import numpy as np
import pytest

from qvggt.eval.metrics.points import CloudErrors, cloud_errors, estimate_normals


def plane(size: int = 20, height: float = 0.0) -> np.ndarray:
    x, y = np.meshgrid(np.arange(size, dtype=float), np.arange(size, dtype=float))
    return np.stack((x.ravel(), y.ravel(), np.full(size * size, height)), -1)


def test_a_cloud_against_itself_is_perfect():
    errors = cloud_errors(plane(), plane())
    assert errors.accuracy == errors.completeness == errors.accuracy_median == errors.completeness_median == 0
    assert errors.normal_consistency == pytest.approx(1)
    assert errors.normal_consistency_median == pytest.approx(1)


def test_distances_by_hand():
    truth = np.array([[0.0, 0, 0], [1, 0, 0], [10, 0, 0]])
    predicted = np.array([[0.0, 0, 0.5], [1, 0, 0]])
    errors = cloud_errors(predicted, truth)
    assert errors.accuracy == pytest.approx(0.25)
    assert errors.accuracy_median == pytest.approx(0.25)
    assert errors.completeness == pytest.approx((0.5 + 0 + 9) / 3)  # not truncated
    assert errors.completeness_median == pytest.approx(0.5)


def test_swapping_the_clouds_swaps_accuracy_and_completeness():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 3)), rng.normal(size=(150, 3))
    there, back = cloud_errors(a, b), cloud_errors(b, a)
    assert there.accuracy == back.completeness
    assert there.completeness_median == back.accuracy_median
    assert there.normal_consistency == pytest.approx(back.normal_consistency)


def test_parallel_planes_agree_and_crossed_planes_do_not():
    assert cloud_errors(plane(), plane(height=0.4)).normal_consistency == pytest.approx(1)
    assert cloud_errors(plane(), plane()[:, [0, 2, 1]]).normal_consistency == pytest.approx(0, abs=1e-9)


def test_normals_of_a_plane_and_a_sphere():
    np.testing.assert_allclose(np.abs(estimate_normals(plane() + 1000)), np.tile([0, 0, 1.0], (400, 1)), atol=1e-9)
    directions = np.random.default_rng(0).normal(size=(4000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    cosine = np.abs((estimate_normals(5 * directions) * directions).sum(1))
    assert cosine.mean() > 0.99
    assert cosine.min() > 0.9


def test_normals_do_not_depend_on_chunks(monkeypatch):
    cloud = np.random.default_rng(0).normal(size=(300, 3))
    whole = estimate_normals(cloud)
    monkeypatch.setattr("qvggt.eval.metrics.points._CHUNK", 70)
    np.testing.assert_array_equal(estimate_normals(cloud), whole)


def test_normals_are_nan_where_no_plane_is():
    line = np.outer(np.linspace(0, 1, 40), [1, 2, 3])
    for cloud in (line, np.ones((40, 3)), np.zeros((1, 3)), np.eye(3)[:2]):
        assert np.isnan(estimate_normals(cloud)).all()
    assert np.isfinite(estimate_normals(np.eye(3))).all()


def test_a_collapsed_prediction_gains_nothing_by_its_missing_normals():
    line = np.outer(np.arange(40.0), [0.3, 0.2, 0])
    errors = cloud_errors(line, plane())
    assert errors.normal_consistency == 0
    assert errors.completeness > 0
    single = cloud_errors(np.zeros((1, 3)), plane())
    assert single.accuracy == 0
    assert single.normal_consistency == 0


def test_a_truth_without_normals_leaves_them_unmeasured():
    errors = cloud_errors(plane(), np.zeros((1, 3)))
    assert math.isnan(errors.normal_consistency)
    assert errors.completeness == 0


def test_empty_or_broken_clouds_are_refused():
    with pytest.raises(ValueError, match="N >= 1"):
        cloud_errors(np.zeros((0, 3)), plane())
    with pytest.raises(ValueError, match="finite"):
        cloud_errors(plane() * np.nan, plane())


def test_filled_errors():
    errors = CloudErrors.filled(np.inf, 0.0)
    assert errors.accuracy == errors.completeness_median == np.inf
    assert errors.normal_consistency == errors.normal_consistency_median == 0
