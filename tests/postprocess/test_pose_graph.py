"""Pose graph: drift that a loop shows is spread over the windows, and measurements that agree leave all in place."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qvggt.geometry import Similarity
from qvggt.postprocess.pose_graph import IDENTITY, Relation, difference, halfway, solve_pose_graph

CENTERS = np.column_stack((np.arange(6.0), np.zeros(6), np.zeros(6)))


def similarity(scale, turn_deg, translation):
    return Similarity(
        scale, Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix(), np.array(translation, float)
    )


def neighbors(count=6):
    middles = [(CENTERS[index] + CENTERS[index + 1]) / 2 for index in range(count - 1)]
    return [Relation(index, index + 1, IDENTITY, middle, length=2.0) for index, middle in enumerate(middles)]


def assert_same(found, wanted, tolerance=1e-6):
    assert np.linalg.norm(difference(found, wanted, np.array((1.0, 2.0, 3.0)), 1.0)) < tolerance


def test_solve_pose_graph__agreeing_measurements_leave_all_in_place():
    relations = [*neighbors(), Relation(0, 5, IDENTITY, CENTERS[5], length=2.0)]
    for correction in solve_pose_graph(CENTERS, relations):
        assert_same(correction, IDENTITY)


def test_solve_pose_graph__a_chain_without_loops_follows_its_measurements():
    steps = [similarity(1 + 0.02 * index, (index, -index, 2), (0.1, 0, 0.05 * index)) for index in range(5)]
    relations = [
        Relation(each.first, each.second, step, each.center, each.length)
        for each, step in zip(neighbors(), steps, strict=True)
    ]
    wanted = IDENTITY
    for correction, step in zip(solve_pose_graph(CENTERS, relations)[1:], steps, strict=True):
        wanted = wanted @ step
        assert_same(correction, wanted, 1e-4)


def test_solve_pose_graph__a_sure_loop_closes_and_its_drift_is_spread():
    drift = similarity(1.05, (0, 0, 8), (0.2, -0.3, 0.1))
    loop = Relation(0, 5, drift, CENTERS[5], length=2.0, deviation=0.01)
    corrections = solve_pose_graph(CENTERS, [*neighbors(), loop])
    assert_same(corrections[0], IDENTITY)
    assert np.linalg.norm(difference(corrections[5], drift, CENTERS[5], 2.0)) < 1e-3
    turned = [np.degrees(difference(each, IDENTITY, CENTERS[0], 2.0)[3]) for each in corrections]
    np.testing.assert_allclose(np.diff(turned), 8 / 5, atol=0.3)
    assert all(np.diff([each.scale for each in corrections]) > 0)


def test_solve_pose_graph__a_wrong_loop_hardly_outweighs_right_ones():
    right = [Relation(0, index, IDENTITY, CENTERS[index], length=2.0) for index in (2, 3, 4, 5)]
    wrong = Relation(1, 4, similarity(1.0, (0, 0, 90), (5, 5, 5)), CENTERS[4], length=2.0)
    corrections = solve_pose_graph(CENTERS, [*neighbors(), *right, wrong])
    assert max(np.linalg.norm(difference(each, IDENTITY, CENTERS[2], 2.0)) for each in corrections) < 0.2


@pytest.mark.parametrize("center", [(0.0, 0.0, 0.0), (3.0, -1.0, 2.0)])
def test_halfway__is_as_far_from_both(center):
    center = np.array(center)
    first, second = similarity(1.1, (5, 0, 3), (1, 0, 0)), similarity(1.2, (9, -4, 3), (1.5, 0.2, 0))
    middle = halfway(first, second, center)
    ours, theirs = difference(middle, first, center, 1.0), difference(middle, second, center, 1.0)
    assert np.linalg.norm(ours[:4]) == pytest.approx(np.linalg.norm(theirs[:4]))
    np.testing.assert_allclose(middle.apply(center), (first.apply(center) + second.apply(center)) / 2, atol=1e-9)
    assert_same(halfway(first, first, center), first)


def test_relation__json_is_exact():
    relation = Relation(2, 7, similarity(1.1, (5, 0, 3), (1, 0.1, 0)), np.array((0.1, 0.2, 0.3)), 2.3, deviation=0.5)
    again = Relation.from_json(json.loads(json.dumps(relation.to_json())))
    assert again.to_json() == relation.to_json()
    np.testing.assert_array_equal(again.correction.rotation, relation.correction.rotation)
