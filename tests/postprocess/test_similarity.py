"""The similarity transform between two reconstructions of the same images."""

from dataclasses import replace

import numpy as np
import pytest

from qvggt.geometry import Similarity
from qvggt.postprocess.frames import chosen_frames
from qvggt.postprocess.similarity import align, similarity, transformed
from qvggt.types import QvggtError

BY = Similarity(2.0, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([1.0, 2, 3]))


def test_the_transform_that_was_applied_is_found(room):
    found = similarity(transformed(room, BY), room)
    assert found.scale == pytest.approx(2, rel=1e-5)
    np.testing.assert_allclose(found.rotation, BY.rotation, atol=1e-5)
    np.testing.assert_allclose(found.translation, BY.translation, atol=1e-4)


def test_what_masks_exclude_does_not_count(room):
    moved = transformed(room, BY)
    mask = np.ones(moved.depth.shape, bool)
    mask[:, :30] = False  # most of each frame, and by far the most confident
    mask[0] = False
    spoiled = replace(
        moved,
        depth=np.where(mask, moved.depth, 77).astype(np.float32),
        depth_conf=np.where(mask, moved.depth_conf, 99).astype(np.float32),
    )
    assert similarity(spoiled, room).scale != pytest.approx(2, rel=0.1)
    assert similarity(replace(spoiled, mask=mask), room).scale == pytest.approx(2, rel=1e-5)


def test_align__by_the_frames_that_both_have(room):
    later = chosen_frames(transformed(room, BY), [3, 1, 2])
    found = align(chosen_frames(room, [0, 1, 2]), later)
    assert found.scale == pytest.approx(2, rel=1e-5)
    np.testing.assert_allclose(found.rotation, BY.rotation, atol=1e-5)
    np.testing.assert_allclose(found.translation, BY.translation, atol=1e-4)


def test_align__refusals(room, room_factory):
    with pytest.raises(QvggtError, match="share no frame"):
        align(chosen_frames(room, [0, 1]), chosen_frames(room, [2, 3]))
    with pytest.raises(QvggtError, match="one size"):
        align(room, room_factory(width=70))
    with pytest.raises(QvggtError, match="no cameras"):
        align(room, replace(room, cam_from_world=None))
    with pytest.raises(QvggtError, match="needs depth"):
        align(replace(room, depth=None), room)
