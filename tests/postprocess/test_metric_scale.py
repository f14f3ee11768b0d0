"""Metric scale: exact rooms, shrunk by a known factor, grow back to meters."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qvggt.geometry import Similarity
from qvggt.options.known import KnownDistance, Place
from qvggt.postprocess.frames import camera_centers
from qvggt.postprocess.metric_scale import scale_from_depth, scale_from_distances, scale_from_positions, scaled
from qvggt.types import FrameMap, QvggtError

SHRUNK = 0.4  # units per meter


@pytest.fixture(scope="module")
def small(room):
    return scaled(room, SHRUNK)


@pytest.fixture(scope="module")
def long_walk(room_factory):
    return room_factory(frames=9)


def centers(room):
    return camera_centers(room.cam_from_world.astype(np.float64))


def distance(first, second, meters):
    return KnownDistance(Place.of(first), Place.of(second), meters)


def test_scaled__lengths_grow_and_nothing_else(room):
    big = scaled(room, 2.5)
    np.testing.assert_allclose(big.depth, room.depth * 2.5, rtol=1e-6)
    np.testing.assert_allclose(big.world_points, room.world_points * 2.5, rtol=1e-6)
    np.testing.assert_allclose(big.cam_from_world[:, :, 3], room.cam_from_world[:, :, 3] * 2.5, rtol=1e-6)
    np.testing.assert_array_equal(big.cam_from_world[:, :, :3], room.cam_from_world[:, :, :3])
    np.testing.assert_array_equal(big.pose_enc[:, 3:], room.pose_enc[:, 3:])
    for name in ("images", "intrinsics", "depth_conf", "world_points_conf", "names", "maps"):
        assert getattr(big, name) is getattr(room, name)


def test_scaled__missing_outputs_stay_missing(room):
    cameras = replace(room, depth=None, world_points=None, pose_enc=None)
    assert scaled(cameras, 2).depth is None


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf"), 1e39])
def test_scaled__impossible_factors_are_refused(room, factor):
    with pytest.raises(QvggtError, match="scale"):
        scaled(room, factor)


def test_scale_from_distances__between_cameras(room, small):
    places = centers(room)
    meters = float(np.linalg.norm(places[0] - places[3]))
    found = scale_from_distances(small, [distance("room_01.jpg", "room_04.jpg", meters)])
    assert found.meters_per_unit == pytest.approx(1 / SHRUNK, rel=1e-6)
    assert found.worst_residual_m < 1e-6
    assert (found.used, found.rejected) == (1, ())


MAPS = {
    "resized": FrameMap((224, 168), (0.25, 0.25), (0.0, 0.0)),
    "cropped": FrameMap((224, 300), (0.25, 0.25), (0.0, -16.5)),
    "padded": FrameMap((160, 168), (0.25, 0.25), (8.0, 0.0)),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_scale_from_distances__between_pixels_of_photographs(room, name, shift):
    """Pixels are counted with the first one's center at one half, whatever resizing, cropping or padding did."""
    frame = MAPS[name]
    small = scaled(replace(room, maps=(frame,) * 4), SHRUNK)
    processed = np.array([[30.5, 38.5], [12.5, 36.5]]) + np.array(
        [shift, 0]
    )  # both on the floor or a wall, which are planes
    ends, texts = [], []
    for index, pixel in zip((0, 2), processed, strict=True):
        camera, lens = room.cam_from_world[index].astype(np.float64), room.intrinsics[index]
        row, column = pixel[::-1].astype(int)
        corners = [1 / room.depth[index, row, column + step] for step in (0, 1)]
        depth = 1 / (corners[0] * (1 - shift) + corners[1] * shift)
        local = np.array([*((pixel - lens[:2, 2]) / (lens[0, 0], lens[1, 1])), 1]) * depth
        ends.append(camera[:, :3].T @ (local - camera[:, 3]))
        x, y = (pixel - frame.offset) / frame.scale
        texts.append(f"room_0{index + 1}.jpg@{x:.9f},{y:.9f}")
    meters = float(np.linalg.norm(ends[0] - ends[1]))
    found = scale_from_distances(small, [distance(*texts, meters)])
    assert found.meters_per_unit == pytest.approx(1 / SHRUNK, rel=1e-6)


def test_scale_from_distances__one_wrong_among_five_is_rejected(small, room):
    places, names = centers(room), room.names
    pairs = [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]
    lengths = [float(np.linalg.norm(places[i] - places[j])) for i, j in pairs]
    lengths[1] *= 1.7
    known = [distance(names[i], names[j], length) for (i, j), length in zip(pairs, lengths, strict=True)]
    found = scale_from_distances(small, known)
    assert found.meters_per_unit == pytest.approx(1 / SHRUNK, rel=1e-6)
    assert found.rejected == ("room_01.jpg:room_03.jpg",)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("room_1.jpg", "room_02.jpg", "did you mean 'room_01.jpg'"),
        ("zebra", "room_02.jpg", "the 4 frames are 'room_01.jpg'"),
        ("room_01.jpg@300,10", "room_02.jpg", "outside of the photograph, which has 224x168"),
    ],
)
def test_scale_from_distances__places_that_do_not_exist(small, first, second, words):
    with pytest.raises(QvggtError, match=words):
        scale_from_distances(small, [distance(first, second, 1.0)])


def test_scale_from_distances__pixels_without_depth(small):
    masked = replace(small, mask=np.zeros(small.depth.shape, bool))
    with pytest.raises(QvggtError, match="no depth"):
        scale_from_distances(masked, [distance("room_01.jpg@9,9", "room_02.jpg", 1.0)])
    cropped = replace(small, maps=(FrameMap((224, 300), (0.25, 0.25), (0.0, -16.5)),) * 4)
    with pytest.raises(QvggtError, match="--mode pad"):
        scale_from_distances(cropped, [distance("room_01.jpg@9,9", "room_02.jpg", 1.0)])


def test_scale_from_distances__cameras_in_one_place(small):
    still = replace(small, cam_from_world=np.repeat(small.cam_from_world[:1], 4, 0))
    with pytest.raises(QvggtError, match="in one place"):
        scale_from_distances(still, [distance("room_01.jpg", "room_02.jpg", 1.0)])


WORLD = Similarity(1 / SHRUNK, Rotation.from_rotvec([0.3, -0.8, 1.1]).as_matrix(), np.array([100.0, -20.0, 5.0]))


def known_positions(small):
    return {name: WORLD.apply(place) for name, place in zip(small.names, centers(small), strict=True)}


def test_scale_from_positions__exact(small):
    found = scale_from_positions(small, known_positions(small))
    assert found.meters_per_unit == pytest.approx(1 / SHRUNK, rel=1e-6)
    assert found.worst_residual_m < 1e-5
    np.testing.assert_allclose(found.world.rotation, WORLD.rotation, atol=1e-5)
    np.testing.assert_allclose(found.world.translation, WORLD.translation, atol=1e-4)


@pytest.mark.parametrize("frames", [4, 9])
@pytest.mark.parametrize("wrong", [0, 2])
def test_scale_from_positions__one_wrong_position_is_rejected(room_factory, frames, wrong):
    small = scaled(room_factory(frames=frames), SHRUNK)
    positions = known_positions(small)
    positions[small.names[wrong]] += (0.9, -0.4, 0.7)
    found = scale_from_positions(small, positions)
    assert found.rejected == (small.names[wrong],)
    assert found.meters_per_unit == pytest.approx(1 / SHRUNK, rel=1e-6)


def test_scale_from_positions__noise_rejects_nobody_and_is_the_residual(long_walk):
    rng = np.random.default_rng(3)
    small = scaled(long_walk, SHRUNK)
    positions = {name: place + rng.normal(scale=0.02, size=3) for name, place in known_positions(small).items()}
    found = scale_from_positions(small, positions)
    assert found.rejected == ()
    assert found.meters_per_unit == pytest.approx(1 / SHRUNK, rel=0.03)
    assert 0.01 < found.median_residual_m < 0.05 > found.worst_residual_m / 2


def test_scale_from_positions__standing_still_for_most_frames_does_not_hide_the_walk(long_walk):
    """Frames in one place fit each other at any scale; they must not outvote those that moved."""
    small = scaled(long_walk, SHRUNK)
    cameras = small.cam_from_world.copy()
    cameras[:5] = cameras[0]
    still = replace(small, cam_from_world=cameras)
    assert scale_from_positions(still, known_positions(still)).meters_per_unit == pytest.approx(1 / SHRUNK, rel=1e-6)


def test_scale_from_positions__on_a_line_there_is_a_scale_and_no_world(small):
    line = np.tile(np.eye(3, 4, dtype=np.float32), (4, 1, 1))
    line[:, 0, 3] = (0, -0.3, -0.7, -1.1)
    straight = replace(small, cam_from_world=line)
    found = scale_from_positions(straight, known_positions(straight))
    assert found.meters_per_unit == pytest.approx(1 / SHRUNK, rel=1e-6)
    assert found.world is None


def test_scale_from_positions__what_determines_nothing_is_refused(small):
    positions = known_positions(small)
    with pytest.raises(QvggtError, match="at least 2 frames, got 1"):
        scale_from_positions(small, {"room_01.jpg": np.zeros(3)})
    with pytest.raises(QvggtError, match="all in one place"):
        scale_from_positions(small, {name: np.ones(3) for name in positions})
    with pytest.raises(QvggtError, match=r"accurate to 5 m"):
        scale_from_positions(small, positions, accuracy_m=5.0)
    scrambled = dict(zip(positions, reversed(positions.values()), strict=True))
    scrambled["room_02.jpg"], scrambled["room_04.jpg"] = scrambled["room_04.jpg"], scrambled["room_02.jpg"] + 9
    with pytest.raises(QvggtError, match="do not fit"):
        scale_from_positions(small, scrambled)
    still = replace(small, cam_from_world=np.repeat(small.cam_from_world[:1], 4, 0))
    with pytest.raises(QvggtError, match="the cameras are predicted in one place"):
        scale_from_positions(still, positions)


def test_scale_from_depth__holes_and_outliers_do_not_matter(room, small):
    image = room.depth[1].astype(np.float64)
    image[:5] = 0
    image[5:9] = np.nan
    image[9:15] *= 3
    found = scale_from_depth(small, {"room_02.jpg": image})
    assert found.meters_per_unit == pytest.approx(1 / SHRUNK, rel=1e-6)
    assert found.worst_residual_m < 1e-5
    assert found.source == "depth"


def test_scale_from_depth__refusals(room, small):
    with pytest.raises(QvggtError, match="expected the same aspect ratio"):
        scale_from_depth(small, {"room_02.jpg": room.depth[1].T})
    with pytest.raises(QvggtError, match="0 pixels"):
        scale_from_depth(small, {"room_02.jpg": np.zeros((42, 56))})
    with pytest.raises(QvggtError, match="did you mean"):
        scale_from_depth(small, {"room02.jpg": room.depth[1]})
