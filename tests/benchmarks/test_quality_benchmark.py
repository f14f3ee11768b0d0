"""The benchmark of findings puts the faults into rooms that it says."""

import numpy as np
import pytest

from quality import add, blurred, cases, noisy_truth, room, table


@pytest.fixture(scope="module")
def faults():
    return cases("test", 0, 1)


@pytest.mark.render
def test_faults_are_found_in_exact_geometry_and_nothing_without_them(faults):
    counts = {fault: {} for fault in faults}
    for fault, case in faults.items():
        add(counts[fault], noisy_truth(case.scene, 0), case)
    assert counts["none"] == {"rooms": 1}
    for fault in ("a blurred frame", "a frame of another room", "halves that face away", "cameras in one place"):
        assert counts[fault]["exact"] == 1, fault
    lines = table("exact", counts).splitlines()
    assert lines[2].startswith("| none | 1 | any: 0 |")
    assert len(lines) == 2 + len(faults)


@pytest.mark.render
def test_only_the_named_frame_is_blurred():
    scene = room("test", 1)
    changed = blurred(scene, 3, 0)
    same = [bool(np.array_equal(a, b)) for a, b in zip(scene.images, changed.images, strict=True)]
    assert same == [index != 3 for index in range(8)]
