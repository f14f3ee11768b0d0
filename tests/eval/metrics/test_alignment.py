"""Laws of cloud alignment."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from qvggt.eval.metrics.alignment import align_medians, refine_icp
from qvggt.geometry import umeyama
from qvggt.types import QvggtError


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.integers(3, 50))
def test_umeyama_recovers_a_similarity(seed, scale, count):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(count, 3))
    rotation, translation = Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3) * 10
    target = scale * source @ rotation.T + translation
    found = umeyama(source, target)
    assert found.scale == pytest.approx(scale)
    np.testing.assert_allclose(found.apply(source), target, atol=1e-9 * max(scale, 10))
    if count > 3:
        np.testing.assert_allclose(found.rotation, rotation, atol=1e-6)


def test_umeyama_never_mirrors():
    source = np.random.default_rng(0).normal(size=(30, 3))
    found = umeyama(source, source * [1, 1, -1])
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    assert found.scale > 0


def test_umeyama_beats_its_neighbors_in_least_squares():
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(40, 3)), rng.normal((1, 2, 3), size=(40, 3))
    found = umeyama(source, target)
    best = ((found.apply(source) - target) ** 2).sum()
    for scale in (0.98, 1.02):
        other = type(found)(found.scale * scale, found.rotation, found.translation)
        assert ((other.apply(source) - target) ** 2).sum() > best


def test_degenerate_sources_keep_an_optimum():
    line = np.outer(np.arange(5.0), [1, 2, 2])
    turned = 2 * line @ Rotation.from_euler("x", 40, degrees=True).as_matrix().T + 1
    np.testing.assert_allclose(umeyama(line, turned).apply(line), turned, atol=1e-9)
    place = np.full((4, 3), 0.3)
    target = np.random.default_rng(0).normal(size=(4, 3))
    found = umeyama(place, target)
    assert found.scale == 1
    np.testing.assert_allclose(found.apply(place), np.tile(target.mean(0), (4, 1)))
    np.testing.assert_allclose(umeyama(place[:1], target[:1]).apply(place[:1]), target[:1])


def test_medians_recover_scale_and_depth_shift():
    target = np.random.default_rng(0).normal((0, 0, 4), size=(500, 3))
    source = (target - [0, 0, 1.5]) / 3
    np.testing.assert_allclose(align_medians(source, target).apply(source), target, atol=1e-9)


def test_the_ratio_of_medians_is_clipped():
    target = np.random.default_rng(0).normal(size=(50, 3))
    assert align_medians(target * 1e-6, target).scale == 1e3
    assert align_medians(target * 1e6, target).scale == 1e-3
    assert align_medians(target[:1], target[:1]).scale == 1
    assert align_medians(target[:1], target).scale == 1e3


def surface(count: int, seed: int) -> np.ndarray:
    """Points on three walls of a room."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (count, 3))
    points[np.arange(count), rng.integers(3, size=count)] = 1
    return points


def test_icp_undoes_a_small_motion():
    pytest.importorskip("small_gicp")
    target = surface(3000, 0)
    rotation = Rotation.from_rotvec([0.01, -0.01, 0.015]).as_matrix()
    source = (target - [0.02, 0.01, -0.01]) @ rotation
    found = refine_icp(source, target)
    np.testing.assert_allclose(found.apply(source), target, atol=1e-4)
    again = refine_icp(source, target)
    np.testing.assert_array_equal(found.rotation, again.rotation)


def test_icp_without_correspondences_is_the_identity():
    pytest.importorskip("small_gicp")
    target = surface(300, 0)
    for source in (target + 100, target[:2] + 0.01):
        found = refine_icp(source, target)
        np.testing.assert_array_equal(found.rotation, np.eye(3))
        np.testing.assert_array_equal(found.translation, np.zeros(3))


def test_icp_without_its_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "small_gicp", None)
    with pytest.raises(QvggtError, match=r"qvggt\[eval\]"):
        refine_icp(np.zeros((3, 3)), np.zeros((3, 3)))


def test_wrong_points_say_what_came():
    good = np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"got shape \(0, 3\)"):
        umeyama(good[:0], good[:0])
    with pytest.raises(ValueError, match="corresponding"):
        umeyama(good, good[:3])
    with pytest.raises(ValueError, match="finite"):
        align_medians(good * np.nan, good)
