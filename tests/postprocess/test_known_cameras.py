"""Known cameras replace predicted ones, and depth and points follow; exact rooms come back exactly."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qvggt.geometry import Similarity
from qvggt.postprocess.cameras import consistent_depth_scales, with_cameras
from qvggt.postprocess.frames import camera_centers
from qvggt.postprocess.known_cameras import with_intrinsics, with_poses, with_rig
from qvggt.postprocess.metric_scale import scaled
from qvggt.postprocess.similarity import transformed
from qvggt.types import QvggtError, Rig

WORLD = Similarity(2.5, Rotation.from_rotvec([0.2, 1.1, -0.4]).as_matrix(), np.array([10.0, -3.0, 2.0]))


def turned(camera: np.ndarray, degrees: float, shift: float = 0.0) -> np.ndarray:
    """Return a camera [3, 4] that looks and stands elsewhere."""
    turn = Rotation.from_euler("y", degrees, degrees=True).as_matrix()
    return turn @ camera + np.column_stack((np.zeros((3, 3)), (shift, 0, 0)))


def project(room, frame, points):
    camera, lens = room.cam_from_world[frame].astype(np.float64), room.intrinsics[frame].astype(np.float64)
    local = points.reshape(-1, 3).astype(np.float64) @ camera[:, :3].T + camera[:, 3]
    pixels = local @ lens.T
    return pixels[:, :2] / pixels[:, 2:], local[:, 2]


def original(room, focal_px):
    width, height = room.maps[0].original_size
    return np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])


@pytest.fixture(scope="module")
def known_poses(room):
    moved = transformed(room, WORLD).cam_from_world.astype(np.float64)
    return dict(zip(room.names, moved, strict=True))


def test_with_cameras__pixels_and_depth_of_points_follow(room):
    cameras = np.array([turned(c, 5, 0.1) for c in room.cam_from_world.astype(np.float64)])
    lenses = room.intrinsics * np.array([[1.2, 1, 1], [1, 1.1, 1], [1, 1, 1]])
    scales = np.array([1.0, 1.5, 0.5, 2.0])
    new = with_cameras(room, cameras, lenses, scales)
    v, u = np.mgrid[:42, :56] + 0.5
    for frame, scale in enumerate(scales):
        pixels, depth = project(new, frame, new.world_points[frame])
        np.testing.assert_allclose(pixels, np.stack((u, v), -1).reshape(-1, 2), atol=2e-3)
        np.testing.assert_allclose(depth, room.depth[frame].ravel() * scale, rtol=1e-4)
        np.testing.assert_allclose(new.depth[frame], room.depth[frame] * scale, rtol=1e-6)
    fov_v = 2 * np.arctan(42 / 2 / lenses[:, 1, 1])
    np.testing.assert_allclose(new.pose_enc[:, 7], fov_v, rtol=1e-5)


def test_consistent_depth_scales__one_frame_twice_as_deep_is_found(room):
    np.testing.assert_array_equal(consistent_depth_scales(room), 1)
    wrong = np.array([1.0, 1.0, 1.2, 1.0])
    found = consistent_depth_scales(replace(room, depth=room.depth * wrong[:, None, None].astype(np.float32)))
    np.testing.assert_allclose(found * wrong, np.full(4, (found * wrong)[0]), rtol=0.01)
    assert np.log(found).mean() == pytest.approx(0, abs=1e-6)


def test_with_intrinsics__replaces_rays_and_keeps_depth(room):
    true = room.intrinsics[0, 0, 0]
    off = replace(room, intrinsics=room.intrinsics * np.array([[1.3, 1, 1], [1, 1.3, 1], [1, 1, 1]], np.float32))
    names = room.names[:3]
    found, details = with_intrinsics(off, {name: original(room, true / 0.25) for name in names})
    np.testing.assert_allclose(found.intrinsics[:3], room.intrinsics[:3], rtol=1e-6)
    np.testing.assert_array_equal(found.intrinsics[3], off.intrinsics[3])
    np.testing.assert_array_equal(found.depth, room.depth)
    assert details == {"frames": 3, "median_predicted_over_known": pytest.approx(1.3, rel=1e-6)}
    with pytest.raises(QvggtError, match="no frame has a known focal length"):
        with_intrinsics(room, {"other.jpg": original(room, 100)})


def test_with_poses__the_known_frame_is_the_world(room, known_poses):
    found, details = with_poses(room, known_poses)
    np.testing.assert_allclose(found.cam_from_world, list(known_poses.values()), atol=1e-5)
    np.testing.assert_allclose(found.depth, room.depth * WORLD.scale, rtol=1e-5)
    np.testing.assert_allclose(found.world_points, WORLD.apply(room.world_points), atol=1e-4)
    assert details["scale"] == pytest.approx(WORLD.scale, rel=1e-5)
    assert details["worst_residual"] < 1e-4
    assert details["rejected"] == []


def test_with_poses__wrong_predictions_are_replaced_and_do_not_disturb_the_others(room_factory):
    room = room_factory(frames=8)
    poses = dict(zip(room.names, transformed(room, WORLD).cam_from_world.astype(np.float64), strict=True))
    cameras = room.cam_from_world.copy()
    cameras[5] = turned(cameras[5].astype(np.float64), 20, 0.8)
    found, details = with_poses(replace(room, cam_from_world=cameras), poses)
    assert details["rejected"] == ["room_06.jpg"]
    assert details["scale"] == pytest.approx(WORLD.scale, rel=1e-5)
    np.testing.assert_allclose(found.cam_from_world, list(poses.values()), atol=1e-5)
    np.testing.assert_allclose(found.depth, room.depth * WORLD.scale, rtol=0.01)


def test_with_poses__frames_without_one_come_along(room, known_poses):
    some = {name: known_poses[name] for name in room.names[:3]}
    found, details = with_poses(room, some)
    assert details["frames"] == 3
    np.testing.assert_allclose(found.cam_from_world, list(known_poses.values()), atol=1e-4)


def test_with_poses__what_does_not_fit_is_refused(room, known_poses):
    with pytest.raises(QvggtError, match="no frame has a known pose"):
        with_poses(room, {})
    inverted = {
        name: np.column_stack((pose[:, :3].T, camera_centers(pose[None])[0])) for name, pose in known_poses.items()
    }
    with pytest.raises(QvggtError, match="do not fit the predicted ones"):
        with_poses(room, inverted)
    still = replace(room, cam_from_world=np.repeat(room.cam_from_world[:1], 4, 0))
    with pytest.raises(QvggtError, match="in one place"):
        with_poses(still, {name: known_poses[room.names[0]] + [[0, 0, 0, i]] * 3 for i, name in enumerate(room.names)})


def stereo(room, noise_deg=0.0):
    """Return pairs of the room's cameras and their neighbors 12 cm beside, each disturbed, and the rig."""
    rng = np.random.default_rng(5)
    relative = np.column_stack((Rotation.from_euler("y", 3, degrees=True).as_matrix(), (-0.12, 0.0, 0.01)))
    left = room.cam_from_world.astype(np.float64)[:2]
    right = np.array(
        [np.column_stack((relative[:, :3] @ c[:, :3], relative[:, :3] @ c[:, 3] + relative[:, 3])) for c in left]
    )
    true = np.stack((left[0], right[0], left[1], right[1]))
    cameras = np.array([turned(c, rng.normal(scale=noise_deg) if noise_deg else 0) for c in true])
    rig = Rig(
        {"left": np.eye(3, 4), "right": relative},
        [{"left": room.names[0], "right": room.names[1]}, {"left": room.names[2], "right": room.names[3]}],
    )
    return replace(room, cam_from_world=cameras.astype(np.float32), depth=None, world_points=None), true, rig


def relative_of(cameras, one, other):
    return cameras[other, :, :3] @ cameras[one, :, :3].T


def test_with_rig__known_relative_poses_give_meters_and_hold(room):
    small, true, rig = stereo(room)
    found, details = with_rig(scaled(small, 0.4), rig)
    assert details["meters_per_unit"] == pytest.approx(2.5, rel=1e-5)
    np.testing.assert_allclose(found.cam_from_world, true, atol=1e-5)
    disturbed, _, _ = stereo(room, noise_deg=1.0)
    found, details = with_rig(disturbed, rig)
    for one in (0, 2):
        relative = relative_of(found.cam_from_world.astype(np.float64), one, one + 1)
        np.testing.assert_allclose(relative, rig.cam_from_rig["right"][:, :3], atol=1e-5)
    assert 0.1 < details["median_rotation_deg"] < 3


def test_with_rig__unknown_relative_poses_are_averaged(room):
    disturbed, true, rig = stereo(room, noise_deg=1.0)
    found, details = with_rig(disturbed, replace(rig, cam_from_rig=None))
    assert details["relative_poses"] == "averaged"
    cameras = found.cam_from_world.astype(np.float64)
    np.testing.assert_allclose(relative_of(cameras, 0, 1), relative_of(cameras, 2, 3), atol=1e-5)
    np.testing.assert_allclose(relative_of(cameras, 0, 1), relative_of(true, 0, 1), atol=0.05)


def test_with_rig__refusals(room):
    small, _, rig = stereo(room)
    with pytest.raises(QvggtError, match="did you mean"):
        with_rig(small, replace(rig, groups=[{"left": "room_1.jpg", "right": "room_02.jpg"}]))
    groups = [{"left": "room_01.jpg", "right": "room_02.jpg"}, {"top": "room_03.jpg", "right": "room_04.jpg"}]
    with pytest.raises(QvggtError, match="'top' is in no group with 'left'"):
        with_rig(small, Rig(None, groups))
    still = replace(small, cam_from_world=np.repeat(small.cam_from_world[:1], 4, 0))
    with pytest.raises(QvggtError, match="in one place"):
        with_rig(still, rig)
