"""Returning frames: what looks alike is found, whatever its brightness, in the earliest window that will do."""

import numpy as np
import pytest

from qvggt.postprocess.returning_frames import appearance, find_return

WINDOWS = [range(start, start + 6) for start in (0, 4, 8, 12, 16)]


def views(places):
    """One image for each place of a line: a picture that is shifted by it."""
    picture = np.random.default_rng(0).random((3, 4, 40), dtype=np.float32).repeat(8, 1).repeat(4, 2)
    return np.stack([picture[:, :, 4 * place : 4 * place + 48] for place in places])


def test_appearance__does_not_depend_on_brightness_and_contrast():
    images = views(range(4))
    vectors = appearance(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(appearance(0.5 * images + 0.2), vectors, atol=1e-5)


@pytest.mark.parametrize("size", [(14, 14), (28, 42), (5, 70)])
def test_appearance__takes_any_size(size):
    images = np.random.default_rng(0).random((3, 3, *size), dtype=np.float32)
    assert np.isfinite(appearance(images)).all()
    assert not appearance(np.zeros_like(images)).any()


def test_find_return__the_way_back_is_found():
    places = [*range(11), *reversed(range(11))]
    back = find_return(appearance(views(places)), WINDOWS, 4, 4)
    assert (back.first, back.second) == (0, 4)
    assert len(back.first_frames) == len(back.second_frames) == 4
    assert set(back.first_frames) <= set(WINDOWS[0])
    assert set(back.second_frames) <= set(WINDOWS[4])
    assert {places[frame] for frame in back.first_frames} & {places[frame] for frame in back.second_frames}


@pytest.mark.parametrize("index", [0, 1])
def test_find_return__neighbors_do_not_count(index):
    assert find_return(appearance(views([0] * 22)), WINDOWS, index, 4) is None


def test_find_return__windows_that_share_frames_do_not_count():
    windows = [range(start, start + 6) for start in (0, 2, 4, 6)]
    assert find_return(appearance(views([0] * 12)), windows, 2, 4) is None
    assert find_return(appearance(views([0] * 12)), windows, 3, 4).first == 0


def test_find_return__nothing_is_alike_in_blank_images():
    assert find_return(appearance(np.zeros((22, 3, 28, 28), np.float32)), WINDOWS, 4, 4) is None
