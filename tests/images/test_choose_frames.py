"""Frames of a video with known blur and known motion: what is measured, and which are chosen."""

import numpy as np
import pytest
from scipy import ndimage

from qvggt.images.choose_frames import VideoTrack, choose_frames, measure_video
from qvggt.images.motion import displacement, sharpness_of

STEP_PX, SIZE = 4, (240, 320)
BLURRED = (*range(10, 16), *range(85, 93))
STILL = range(30, 70)


def scenery(seed=0, height=240, width=800):
    """Return a wide picture with detail of several sizes, [H, W, 3] uint8."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.standard_normal((height, width, 3)), (s, s, 0)) * s for s in (1, 4, 12)]
    return np.clip(128 + 110 * sum(layers), 0, 255).astype(np.uint8)


def place(index):
    """Return where the camera of the test's video is, in pixels: it stands still from frame 30 to 70."""
    return STEP_PX * (min(index, STILL.start) + max(0, index - STILL.stop))


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Return a video of 120 frames, blurred and standing still where the names above say."""
    av = pytest.importorskip("av")
    path, picture, rng = tmp_path_factory.mktemp("walk") / "walk.mp4", scenery(), np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = SIZE[::-1]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
        for index in range(120):
            frame = picture[:, place(index) : place(index) + SIZE[1]]
            if index in BLURRED:
                frame = ndimage.uniform_filter(frame, (1, 9, 1))
            frame = np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8)  # a sensor's noise
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def track(walk):
    return measure_video(walk)


def test_motion_is_the_path_of_the_content(track):
    assert len(track.time_s) == 120
    np.testing.assert_allclose(track.time_s, np.arange(120) / 10, atol=1e-6)
    truth = np.array([place(index) for index in range(120)]) / SIZE[1]
    np.testing.assert_allclose(track.motion, truth, atol=0.04)
    assert (np.diff(track.motion) >= 0).all()
    assert np.ptp(track.motion[STILL.start + 8 : STILL.stop]) == 0  # neither noise nor compression is motion


def test_blurred_frames_are_less_sharp_than_those_around(track):
    relative = track.relative_sharpness
    assert (relative[list(BLURRED)] < 0.6).all()
    sharp = [index for index in range(120) if index not in BLURRED]
    assert np.median(relative[sharp]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("number", [2, 5, 8, 13])
def test_chosen_frames_are_sharp_and_spread_over_the_motion(track, number):
    chosen = choose_frames(track, number)
    assert len(chosen) == number
    assert chosen == sorted(set(chosen))
    assert not set(chosen) & set(BLURRED)
    assert sum(index in STILL for index in chosen) <= 1 + 0.1 * number
    places = np.array([place(index) for index in chosen]) / place(119)
    even = (np.arange(number) + 0.5) / number
    assert np.abs(places - even).max() < 1.3 / number + 0.05


def test_a_blurred_stretch_longer_than_the_distance_of_frames_gets_few(track):
    chosen = choose_frames(track, 24)
    assert sum(index in BLURRED for index in chosen) <= 2  # 14 of the 80 frames in motion would be 4


def test_a_camera_that_stands_still_yields_frames_spread_in_time():
    track = VideoTrack(np.arange(100) / 10, np.full(100, 50.0), np.zeros(100))
    assert choose_frames(track, 4) == [12, 37, 62, 87]
    assert choose_frames(track, 1) == [49]


def test_no_more_frames_than_there_are():
    track = VideoTrack(np.arange(3) / 10, np.ones(3), np.zeros(3))
    assert choose_frames(track, 5) == [0, 1, 2]
    assert choose_frames(VideoTrack(np.zeros(1), np.ones(1), np.zeros(1)), 1) == [0]


def test_a_stretch_that_is_all_blurred_still_gets_its_frame():
    sharpness = np.where(np.arange(100) < 50, 1.0, 100.0)
    chosen = choose_frames(VideoTrack(np.arange(100) / 10, sharpness, np.linspace(0, 5, 100)), 10)
    assert sum(index < 50 for index in chosen) in (4, 5)


@pytest.mark.parametrize("shift", [(0, 0), (0, 1), (3, 0), (-2, 5), (0, 8)])
def test_displacement_of_shifted_content(shift):
    gray = scenery(3)[:, :, 0]
    first = gray[20:92, 20:148]
    second = gray[20 + shift[0] : 92 + shift[0], 20 + shift[1] : 148 + shift[1]]
    assert displacement(first, second) * 128 == pytest.approx(np.hypot(*shift), abs=0.25 + 0.06 * np.hypot(*shift))


def test_zooming_is_motion_and_brightness_is_not():
    gray = scenery(3)[:72, :128, 0].astype(np.float32)
    zoomed = ndimage.zoom(gray, 1.1, order=1)[3:75, 6:134]
    assert displacement(gray, zoomed) * 128 == pytest.approx(3.5, abs=1.2)  # 10 % of the mean distance to the middle
    assert displacement(gray, 0.7 * gray) < 1e-3
    assert displacement(gray, np.full_like(gray, 90)) == 0
    assert displacement(gray, scenery(9)[:72, :128, 0].astype(np.float32)) > 0.03


def test_sharpness_falls_with_blur():
    gray = scenery()[:, :320, 0]
    values = [sharpness_of(ndimage.gaussian_filter(gray, sigma)) for sigma in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 4 * values[1]
