"""Rooms whose path returns: all frames once, there and back; and the table's counts."""

import numpy as np

import loops
from long_sequences import Drift
from qvggt.data.rooms.family import room_scene


def test_there_and_back__returns_to_the_start_and_keeps_frames_together():
    scene = room_scene(9_000_001, 7, (14, 14))
    back = loops.there_and_back(scene)
    places = [int(np.flatnonzero((scene.depth == depth).all((1, 2)))[0]) for depth in back.depth]
    assert places == [0, 2, 4, 6, 5, 3, 1]
    np.testing.assert_array_equal(back.images, scene.images[places])
    np.testing.assert_array_equal(back.cam_from_world, scene.cam_from_world[places])


def test_row__counts_what_changed():
    before = [Drift(2.0, 4.0), Drift(1.0, 3.0), Drift(3.0, 2.0)]
    after = [Drift(1.0, 5.0), Drift(1.0, 3.0), Drift(2.99, 2.0)]
    line = loops.row("walk", before, after, seconds=(2.0, 3.0))
    assert line == "| walk | 2 | 2.0 → 1.7 | 1 | 0 | 3.0 → 3.3 | 0 | 1 | 1.50 |"
