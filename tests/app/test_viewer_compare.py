from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qvggt.app.compare import compare_results, point_differences
from qvggt.export.colors import rounded_up
from qvggt.export.result import Result, ResultInfo
from qvggt.geometry import Similarity
from qvggt.postprocess.similarity import transformed
from qvggt.types import QvggtError


def result(prediction, name="a"):
    return Result(Path(name), prediction, ResultInfo())


def test_a_result_in_another_world_and_unit_does_not_differ(room):
    angle = 0.4
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = transformed(room, Similarity(2.5, rotation, np.array([1.0, -2.0, 0.5])))
    compared = compare_results(result(room), result(moved, "b"))
    assert compared.by.scale == pytest.approx(1 / 2.5)
    assert compared.differences.max() < 1e-5
    np.testing.assert_allclose(compared.aligned.depth, room.depth, rtol=1e-5)


def test_a_depth_that_is_off_by_a_tenth_differs_by_a_tenth_times_the_slant(room):
    depth = room.depth.copy()
    depth[:, :, :10] *= 1.1  # fewer than half of the pixels, so that the scale stays
    differences = point_differences(room, replace(room, depth=depth))
    assert differences[:, :, 10:].max() < 1e-5
    height, width = depth.shape[1:]
    focal = room.intrinsics[0, 0, 0]
    slant = np.sqrt(1 + ((0.5 - width / 2) / focal) ** 2 + ((0.5 - height / 2) / focal) ** 2)
    np.testing.assert_allclose(differences[:, 0, 0], 0.1 * slant, rtol=1e-4)


def test_pixels_without_a_point_have_no_difference(room):
    depth = room.depth.copy()
    depth[0, 0, 0] = 0
    differences = point_differences(room, replace(room, depth=depth))
    assert np.isnan(differences[0, 0, 0])
    assert np.isfinite(differences).sum() == differences.size - 1


def test_what_cannot_be_compared_is_said(room):
    with pytest.raises(QvggtError, match="different images"):
        compare_results(result(room), result(replace(room, names=tuple("abcd")), "b"))
    with pytest.raises(QvggtError, match="depth in both results"):
        compare_results(result(room), result(replace(room, depth=None), "b"))


@pytest.mark.parametrize(("value", "top"), [(0.013, 0.02), (0.05, 0.05), (0.0999, 0.1), (7, 10)])
def test_the_top_of_the_scale_is_a_round_number(value, top):
    assert rounded_up(value) == pytest.approx(top)
