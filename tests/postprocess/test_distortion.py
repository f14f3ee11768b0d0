from dataclasses import replace

import numpy as np
import pytest

from qvggt.postprocess.distortion import Lens, undistorted
from qvggt.postprocess.frames import original_intrinsics
from qvggt.types import FrameMap
from raycast_room import cast, make_room

SIZE = (112, 84)


def distorted_room(radial):
    """Return an exact room as a lens with distortion sees it, predicted as pinholes, its lenses and the exact room."""
    exact = make_room(*SIZE, frames=2)
    focal, center = exact.intrinsics[0, 0, 0], np.array(SIZE) / 2
    lens = Lens(np.full(2, focal), center, radial, SIZE)
    u, v = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    seen = (np.stack((u, v), -1).reshape(-1, 2) - center) / focal
    rays = seen
    for _ in range(50):
        rays = seen / (1 + radial * (rays**2).sum(1, keepdims=True))
    depth, colors = looked(exact, np.column_stack((rays, np.ones(len(rays)))))
    shape = (2, SIZE[1], SIZE[0])
    depth = depth.reshape(shape).astype(np.float32)
    # A pinhole takes each point along the ray of its pixel.
    local = np.column_stack((seen, np.ones(len(seen)))).reshape(1, *shape[1:], 3) * depth[..., None]
    rotations, shifts = exact.cam_from_world[:, None, None, :, :3], exact.cam_from_world[:, None, None, :, 3]
    points = np.einsum("shwij,shwi->shwj", np.broadcast_to(rotations, (*shape, 3, 3)), local - shifts)
    images = np.clip(colors.reshape(*shape, 3).transpose(0, 3, 1, 2), 0, 1).astype(np.float32)
    maps = (FrameMap(SIZE, (1.0, 1.0), (0.0, 0.0)),) * 2
    seen_room = replace(exact, images=images, depth=depth, world_points=points.astype(np.float32), maps=maps)
    return seen_room, [lens, lens], exact


def looked(exact, rays):
    """Return depths [S * N] and colors [S * N, 3] of rays [N, 3] of each camera."""
    from raycast_room import room_cameras

    centers, poses = room_cameras(len(exact.images))
    found = [cast(center, rays @ pose[:, :3]) for center, pose in zip(centers, poses, strict=True)]
    return np.concatenate([each[0] for each in found]), np.concatenate([each[1] for each in found])


def exactly(exact, intrinsics):
    """Return what exact pinholes with some intrinsics [3, 3] see: depth [S, H, W] and images [S, 3, H, W]."""
    u, v = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    rays = np.stack((u, v, np.ones_like(u)), -1).reshape(-1, 3) @ np.linalg.inv(intrinsics).T
    depth, colors = looked(exact, rays)
    return depth.reshape(2, SIZE[1], SIZE[0]), colors.reshape(2, SIZE[1], SIZE[0], 3).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("radial", [-0.12, 0.15])
def test_undistorted_pixels_fill_the_photograph_and_no_more(radial):
    lens = Lens(np.array([90.0, 92.0]), np.array([52.0, 44.0]), radial, SIZE)
    u, v = np.meshgrid(np.linspace(0, SIZE[0], 57), np.linspace(0, SIZE[1], 43))
    sources = lens.sources(np.stack((u, v), -1).reshape(-1, 2), lens.undistorted_focal)
    assert (sources > -1e-3).all()
    assert (sources < np.array(SIZE) + 1e-3).all()
    reached = [sources.min(0), SIZE - sources.max(0)]
    assert np.min(reached) < 1e-3
    shorter = lens.sources(np.stack((u, v), -1).reshape(-1, 2), 0.99 * lens.undistorted_focal)
    assert ((shorter < 0) | (shorter > SIZE)).any()


def test_a_lens_without_distortion_changes_nothing():
    lens = Lens(np.array([90.0, 92.0]), np.array([52.0, 44.0]), 0.0, SIZE)
    np.testing.assert_allclose(lens.undistorted_focal, lens.focal, rtol=1e-9)
    pixels = np.array([[3.5, 8.5], [100.5, 80.5]])
    np.testing.assert_allclose(lens.sources(pixels, lens.focal), pixels)


@pytest.mark.parametrize("radial", [-0.1, 0.12])
def test_an_undistorted_prediction_is_what_a_pinhole_sees(radial):
    seen, lenses, exact = distorted_room(radial)
    straight = undistorted(seen, lenses)
    depth, images = exactly(exact, straight.intrinsics[0].astype(float))
    before, _ = exactly(exact, seen.intrinsics[0].astype(float))
    compared = ((straight.depth, depth), (seen.depth, before))
    error, error_before = (np.percentile(np.abs(found / true - 1), 80) for found, true in compared)
    assert error < 0.001 < 0.01 < error_before
    assert np.median(np.abs(straight.images - images)) < 0.01
    points = straight.world_points.reshape(2, -1, 3)
    for index, camera in enumerate(exact.cam_from_world.astype(float)):
        local = points[index] @ camera[:, :3].T + camera[:, 3]
        pixels = local @ straight.intrinsics[index].T
        v, u = np.divmod(np.arange(SIZE[0] * SIZE[1]), SIZE[0])
        np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], np.stack((u, v), -1) + 0.5, atol=2e-3)
        np.testing.assert_allclose(local[:, 2], straight.depth[index].ravel(), rtol=0.03)


def test_what_was_cut_off_has_no_depth_and_frames_without_a_lens_stay():
    seen, lenses, _ = distorted_room(-0.1)
    # The middle of a photograph of twice the height, whose distortion reaches further.
    cut = replace(seen, maps=(FrameMap((SIZE[0], 2 * SIZE[1]), (1.0, 1.0), (0.0, -SIZE[1] / 2)),) * 2)
    center = original_intrinsics(cut.intrinsics[0].astype(float), cut.maps[0])[:2, 2]
    tall = Lens(lenses[0].focal, center, 0.1, (SIZE[0], 2 * SIZE[1]))
    straight = undistorted(cut, [None, tall])
    for name in ("images", "depth", "world_points"):
        np.testing.assert_array_equal(getattr(straight, name)[0], getattr(cut, name)[0])
    np.testing.assert_array_equal(straight.intrinsics[0], cut.intrinsics[0])
    missing = np.isnan(straight.depth[1])
    assert missing.mean() < 0.2
    np.testing.assert_array_equal(missing, np.isnan(straight.world_points[1]).all(-1))


@pytest.mark.parametrize("radial", [-0.1, 0.0, 0.12])
def test_rays_of_a_lens_are_those_that_it_sees_at_a_pixel(radial):
    lens = Lens(np.array([90.0, 92.0]), np.array([52.0, 44.0]), radial, SIZE)
    pixels = np.random.default_rng(0).uniform(0, SIZE, (200, 2))
    np.testing.assert_allclose(lens.sources(lens.center + lens.focal * lens.rays(pixels), lens.focal), pixels)
    np.testing.assert_array_equal(lens.rays(lens.center[None]), 0)


def test_beyond_the_edge_of_a_strong_distortion_there_is_no_ray():
    lens = Lens(np.full(2, 50.0), np.full(2, 50.0), -0.5, (100, 100))
    rays = lens.rays(np.array([[50.0, 50.0], [75.0, 50.0], [90.0, 90.0]]))
    assert np.isfinite(rays).all(1).tolist() == [True, True, False]
