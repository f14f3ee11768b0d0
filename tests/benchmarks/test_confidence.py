"""The benchmark of confidence says what it should of errors that are known."""

import numpy as np
import pytest

import qvggt
from confidence import SceneErrors, figures_of, measure, tables


def scene(sign: float, level: float = 1.0) -> SceneErrors:
    error = np.linspace(0.01, 0.2, 1000) + 0.001 * level
    return SceneErrors(1 + level * np.exp(sign * 10 * error), error)


def test_confidence_that_falls_as_the_error_rises_is_perfect():
    found = figures_of([scene(-1), scene(-1, 2.0)])
    assert found["within"] == pytest.approx(-1)
    assert found["dropped"] == pytest.approx(found["best"])
    assert found["tenths"] == sorted(found["tenths"], reverse=True)
    assert found["dropped"][0] == pytest.approx(0.1065)


def test_confidence_that_rises_with_the_error_is_of_no_use():
    found = figures_of([scene(+1), scene(+1, 2.0)])
    assert found["within"] == pytest.approx(1)
    assert found["dropped"][50] > found["dropped"][0] > found["best"][50]


def test_a_threshold_leaves_scenes_of_low_confidence_empty():
    share, error, empty = figures_of([scene(-1, 5.0), scene(-1, 0.5)])["above"][2.0]
    assert 0 < share < 0.5
    assert error < 0.105
    assert empty == 0.5


@pytest.mark.render
def test_rooms_are_measured(capsys):
    found = measure(qvggt.load("nano", device="cpu", compute="float32"), "test", 2)
    assert [len(each.error) for each in found] == [8 * 112 * 112] * 2
    assert all(each.confidence.min() >= 1 and 0 < each.error.mean() < 0.3 for each in found)
    lines = tables({"test": figures_of(found)}).splitlines()
    assert lines[0] == "| | `test` |"
    assert {line.count("|") for line in lines} == {3}
