"""Drift: none of a similar path, and the right angle and distance of one that turns away."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import long_sequences


def path():
    rotations = Rotation.from_euler("y", np.linspace(0, 90, 16)[:, None], degrees=True).as_matrix()
    centers = np.column_stack((np.arange(16.0), np.sin(np.arange(16.0)), np.zeros(16)))
    return rotations, centers


def cameras(rotations, centers):
    return np.concatenate((rotations, -rotations @ centers[:, :, None]), 2)


def test_drift_of__a_similar_path_has_none():
    rotations, centers = path()
    turn = Rotation.from_euler("xyz", (20, 30, 40), degrees=True).as_matrix()
    found = cameras(rotations @ turn.T, 3 * centers @ turn.T + (1, 2, 3))
    drift = long_sequences.drift_of(found, cameras(rotations, centers))
    assert drift.rotation_deg == pytest.approx(0, abs=1e-5)
    assert drift.translation_percent == pytest.approx(0, abs=1e-9)


def test_drift_of__the_last_quarter_counts():
    rotations, centers = path()
    moved, turned = centers.copy(), rotations.copy()
    moved[12:] += (0, 0, 2)
    turned[12:] = Rotation.from_euler("z", 5, degrees=True).as_matrix() @ rotations[12:]
    drift = long_sequences.drift_of(cameras(turned, moved), cameras(rotations, centers))
    assert drift.rotation_deg == pytest.approx(5)
    length = np.linalg.norm(np.diff(centers, axis=0), axis=1).sum()
    assert drift.translation_percent == pytest.approx(200 / length)
