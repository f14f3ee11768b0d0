from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qvggt.options import RefineOptions
from qvggt.postprocess.frames import camera_centers
from qvggt.postprocess.refine.accept import Judge, accept_frames
from qvggt.postprocess.refine.certainty import _relative, certainty, sure_focal, sure_frames
from qvggt.postprocess.refine.features import Features, PairMatches, searched_size
from qvggt.postprocess.refine.refinement import Tied, _adjusted
from qvggt.postprocess.refine.rig import RigFrames, composed, inverted
from qvggt.postprocess.refine.rounds import Adjusted, adjust
from qvggt.postprocess.refine.tracks import Tracks, build_tracks, connected_frames, split_tracks
from qvggt.postprocess.refine.views import Views, triangulate, widest_angles
from qvggt.postprocess.robust import align_cameras
from qvggt.postprocess.similarity import moved_cameras

FRAMES = 5
LENS = np.zeros(FRAMES, np.int64)
ALONE = RigFrames(np.arange(FRAMES), np.zeros(FRAMES, np.int64), np.tile(np.eye(4)[:3], (FRAMES, 1, 1)))


def posed(rotation, center):
    return np.column_stack((rotation, -rotation @ center))


@pytest.fixture(scope="module")
def views():
    """Five cameras on an arc, 4 units before the scene, that look at its middle."""
    cameras = []
    for angle in np.linspace(-0.4, 0.4, FRAMES):
        rotation = Rotation.from_rotvec([0.1 * angle, -angle, 0]).as_matrix()
        cameras.append(posed(rotation, np.array([4 * np.sin(-angle), 0.3 * angle, -4 * np.cos(angle)])))
    return Views(np.array(cameras), np.full((FRAMES, 2), 500.0), np.full((FRAMES, 2), 300.0), np.zeros(FRAMES))


def seen(views, points, noise_px=0.0, seed=0):
    """Return the tracks of points [N, 3] that every view sees."""
    local = np.einsum("sij,nj->nsi", views.cam_from_world[:, :, :3], points) + views.cam_from_world[:, :, 3]
    xy = local[..., :2] / local[..., 2:] * views.focal + views.center
    xy += noise_px * np.random.default_rng(seed).normal(size=xy.shape)
    count, frames = xy.shape[:2]
    return Tracks(np.repeat(np.arange(count), frames), np.tile(np.arange(frames), count), xy.reshape(-1, 2), count)


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(1).uniform(-1, 1, (300, 3)) * (1.5, 1.5, 1)


def turned(views, degrees, seed=0, frames=range(1, FRAMES)):
    """Return the views with some of them turned."""
    rng, cameras = np.random.default_rng(seed), views.cam_from_world.copy()
    centers = camera_centers(cameras)
    for index in frames:
        axis = rng.normal(size=3)
        turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
        cameras[index] = posed(turn @ cameras[index, :, :3], centers[index])
    return replace(views, cam_from_world=cameras)


def rotation_errors_deg(found, views):
    relative = [each.cam_from_world[1:, :, :3] @ each.cam_from_world[0, :, :3].T for each in (found, views)]
    cosine = (np.einsum("sij,sij->s", *relative) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def features(*places):
    return Features(np.array(places, float).reshape(-1, 2), np.zeros((len(places), 128), np.uint8), (100, 100))


def test_matches_join_to_tracks_and_contradictions_are_dropped():
    one, two, three = features((1, 1), (2, 2), (9, 9)), features((3, 3), (4, 4)), features((5, 5), (6, 6))
    pairs = [
        PairMatches(0, 1, np.array([[0, 0], [1, 1]])),
        PairMatches(1, 2, np.array([[0, 0], [1, 1]])),
        PairMatches(0, 2, np.array([[2, 1]])),  # ties two features of frame 0 to one point
    ]
    tracks = build_tracks([one, two, three], pairs)
    assert tracks.count == 1
    assert tracks.frame.tolist() == [0, 1, 2]
    assert tracks.xy.tolist() == [[1, 1], [3, 3], [5, 5]]
    assert build_tracks([one, two], []).count == 0


def test_the_split_shares_no_track_and_is_repeatable(views, points):
    tracks = seen(views, points)
    fitted, held_out = split_tracks(tracks, 25, seed=3)
    assert fitted.count + held_out.count == tracks.count
    assert 0.15 < held_out.count / tracks.count < 0.35
    assert not {tuple(xy) for xy in fitted.xy} & {tuple(xy) for xy in held_out.xy}
    np.testing.assert_array_equal(split_tracks(tracks, 25, seed=3)[1].xy, held_out.xy)
    assert (
        split_tracks(tracks, 25, seed=4)[1].count != held_out.count
        or (split_tracks(tracks, 25, seed=4)[1].xy != held_out.xy).any()
    )


def test_frames_that_share_too_few_tracks_are_left_out(views, points):
    tracks = seen(views, points)
    alone = tracks.kept((tracks.frame != 3) | (tracks.track < 10))
    assert connected_frames(alone, FRAMES, 30).tolist() == [True, True, True, False, True]
    assert not connected_frames(tracks.of_tracks(np.arange(tracks.count) < 10), FRAMES, 30).any()


def test_triangulation_is_exact_without_noise(views, points):
    found, errors = triangulate(views, seen(views, points))
    np.testing.assert_allclose(found, points, atol=1e-9)
    np.testing.assert_allclose(errors, 0, atol=1e-7)


def test_a_wrong_observation_hardly_moves_its_point(views, points):
    tracks = seen(views, points)
    xy = tracks.xy.copy()
    xy[2] += (40, 0)
    found, errors = triangulate(views, replace(tracks, xy=xy))
    assert np.linalg.norm(found[0] - points[0]) < 0.02
    assert errors[2] > 35


def test_points_behind_a_camera_have_an_infinite_error(views, points):
    tracks = seen(views, points - (0, 0, 20))  # as projections, they are valid
    assert np.isinf(triangulate(views, tracks)[1]).all()


def test_angles_between_rays_are_those_of_the_geometry(views):
    tracks = seen(views, np.zeros((1, 3)))
    assert widest_angles(views, tracks, np.zeros((1, 3)))[0] == pytest.approx(np.degrees(0.8), abs=0.5)


def test_alignment_finds_the_similarity_in_spite_of_one_wrong_camera(views):
    from qvggt.geometry import Similarity

    wanted = Similarity(2.5, Rotation.from_rotvec([0.3, -0.2, 1.0]).as_matrix(), np.array([1.0, 2.0, -3.0]))
    moved = moved_cameras(views.cam_from_world, wanted)
    found = align_cameras(views.cam_from_world, moved)
    assert found.scale == pytest.approx(2.5)
    np.testing.assert_allclose(found.rotation, wanted.rotation, atol=1e-12)
    np.testing.assert_allclose(found.translation, wanted.translation, atol=1e-12)
    np.testing.assert_allclose(camera_centers(moved), wanted.apply(camera_centers(views.cam_from_world)), atol=1e-12)
    moved[2] = posed(np.eye(3), np.array([30.0, 0, 0]))
    robust = align_cameras(views.cam_from_world, moved)
    assert robust.scale == pytest.approx(2.5, rel=0.01)
    np.testing.assert_allclose(robust.rotation, wanted.rotation, atol=0.01)


def test_centers_in_one_place_determine_no_scale(views):
    still = np.stack([posed(each[:, :3], np.zeros(3)) for each in views.cam_from_world])
    assert align_cameras(still, views.cam_from_world) is None


def test_acceptance_keeps_the_old_camera_of_a_frame_that_got_worse(views, points):
    held_out = seen(views, points, noise_px=0.3)
    old, new = turned(views, 1.0), turned(views, 5.0, frames=[3])  # all but frame 3 are exact now
    judge = Judge.of(held_out, [old, new])
    mixed, accepted = accept_frames(judge, old, new, np.ones(FRAMES, bool), moment=ALONE.moment)
    assert accepted.tolist()[1:] == [True, True, False, True]
    assert (mixed.cam_from_world[3] == old.cam_from_world[3]).all()
    assert judge.losses(mixed).sum() < judge.losses(old).sum()


def test_acceptance_takes_nothing_that_is_better_by_chance_only(views, points):
    held_out = seen(views, points[:40], noise_px=0.5)
    old, new = turned(views, 0.005, seed=1), turned(views, 0.005, seed=2)
    judge = Judge.of(held_out, [old, new])
    assert not (judge.prefers(new, old) and judge.prefers(old, new))
    assert not accept_frames(judge, old, old, np.ones(FRAMES, bool), moment=ALONE.moment)[1].any()
    few = Judge(seen(views, points[:5]), 0.2)
    assert not few.prefers(views, turned(views, 3.0))


def test_photographs_are_reduced_to_the_searched_size():
    assert searched_size((4000, 3000), 1600) == (1600, 1200)
    assert searched_size((800, 600), 1600) == (800, 600)


@pytest.fixture
def adjusted(views, points):
    """Return a function that adjusts disturbed views to noisy tracks."""
    pytest.importorskip("pycolmap")

    def run(noise_px=0.3, seed=0, focal=1.04, what=None, change=None):
        start = replace(turned(views, 2.0, seed), focal=views.focal * focal)
        tracks = seen(views, points, noise_px, seed)
        if change is not None:
            tracks = change(tracks)
        return start, adjust(start, tracks, what or Adjusted(LENS, ALONE), rounds=3)

    return run


def test_rounds_find_poses_and_the_shared_focal_length(adjusted, views):
    start, found = adjusted()
    assert rotation_errors_deg(start, views).min() > 1.9
    assert found.used.all()
    assert rotation_errors_deg(found.views, views).max() < 0.1
    np.testing.assert_allclose(found.views.focal, 500, rtol=0.005)


def distorted(tracks, views, radial):
    """Return the tracks as a lens with distortion sees them."""
    plane = (tracks.xy - views.center[0]) / views.focal[0]
    plane *= 1 + radial * (plane**2).sum(1, keepdims=True)
    return replace(tracks, xy=plane * views.focal[0] + views.center[0])


def test_distorted_observations_are_undistorted(views, points):
    straight = seen(views, points)
    lens = replace(views, radial=np.full(FRAMES, -0.1))
    np.testing.assert_allclose(lens.rays(distorted(straight, views, -0.1)), views.rays(straight), atol=1e-7)
    np.testing.assert_allclose(triangulate(lens, distorted(straight, views, -0.1))[0], points, atol=1e-5)


def test_the_pinhole_of_a_distorted_lens_sees_the_image_most_alike(views):
    lens = replace(views, radial=np.full(FRAMES, -0.1))
    focal = lens.pinholes().focal[0, 0]
    assert not lens.pinholes().radial.any()
    plane = np.stack(np.meshgrid(*[np.linspace(-0.6, 0.6, 61)] * 2), -1).reshape(-1, 2)
    seen_px = 500 * plane * (1 - 0.1 * (plane**2).sum(1, keepdims=True))
    squares = [((seen_px - other * plane) ** 2).sum() for other in (focal, 0.995 * focal, 1.005 * focal)]
    assert squares[0] == min(squares)


def test_distortion_is_found_and_does_not_bend_the_cameras(views, points):
    pytest.importorskip("pycolmap")
    start = replace(turned(views, 2.0), focal=views.focal * 1.04)
    tracks = distorted(seen(views, points, noise_px=0.2), views, -0.1)
    found = _adjusted(start, split_tracks(tracks, 25, 0), Tied(LENS, ALONE), RefineOptions())
    np.testing.assert_allclose(found.views.radial, -0.1, atol=0.02)
    assert rotation_errors_deg(found.views, views).max() < 0.15
    straight = _adjusted(
        start, split_tracks(seen(views, points, noise_px=0.2), 25, 0), Tied(LENS, ALONE), RefineOptions()
    )
    np.testing.assert_allclose(straight.views.radial, 0, atol=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_distortion_that_is_sure_needs_no_proof_by_few_held_out_tracks(views, points, seed):
    pytest.importorskip("pycolmap")
    tied, options, straight = Tied(LENS, ALONE), RefineOptions(), seen(views, points, noise_px=0.5, seed=seed)
    found = _adjusted(views, split_tracks(distorted(straight, views, -0.1), 4, seed), tied, options)
    np.testing.assert_allclose(found.views.radial, -0.1, atol=0.01)
    assert not _adjusted(views, split_tracks(straight, 4, seed), tied, options).views.radial.any()


def test_what_is_held_stays(adjusted, views):
    start, found = adjusted(focal=1.0, what=Adjusted(LENS, ALONE, focal=False))
    assert (found.views.focal == start.focal).all()
    assert rotation_errors_deg(found.views, views).max() < 0.1
    start, found = adjusted(focal=1.04, what=Adjusted(LENS, ALONE, poses=False))
    np.testing.assert_allclose(found.views.cam_from_world, start.cam_from_world)


def test_a_frame_with_wrong_matches_does_not_take_part_or_disturb(adjusted, views):
    def scrambled(tracks):
        xy = tracks.xy.copy()
        xy[tracks.frame == 4] = np.random.default_rng(0).uniform(0, 600, (tracks.count, 2))
        return replace(tracks, xy=xy)

    _, found = adjusted(change=scrambled)
    assert not found.used[4]
    assert rotation_errors_deg(found.views, views)[:3].max() < 0.2


def test_standard_deviations_are_those_of_repeated_adjustments(adjusted, views):
    errors, focal, predicted = [], [], None
    for seed in range(8):
        _, found = adjusted(noise_px=0.5, seed=seed)
        errors.append(rotation_errors_deg(found.views, views))
        focal.append(np.log(found.views.focal[0, 0] / 500))
        predicted = certainty(found.views, found.tracks, LENS, ALONE)
    reference = np.eye(6, len(predicted.covariance))[:3]
    deviations = []
    for index in range(1, FRAMES):
        rotation = views.cam_from_world[index, :, :3] @ views.cam_from_world[0, :, :3].T
        block = np.roll(reference, 6 * index, axis=1) - rotation @ reference
        deviations.append(np.degrees(np.sqrt(np.trace(block @ predicted.covariance @ block.T))))
    ratio = np.sqrt(np.mean(np.square(errors))) / np.sqrt(np.mean(np.square(deviations)))
    assert 0.5 < ratio < 2
    assert 0.4 < np.sqrt(np.mean(np.square(focal))) / predicted.focal_deviations()[0] < 2.5


def test_only_changes_above_the_uncertainty_count(adjusted, views):
    start, found = adjusted(noise_px=0.5)
    known = certainty(found.views, found.tracks, LENS, ALONE)
    assert sure_frames(found.views, start, known).all()
    assert sure_focal(found.views, start, known)
    loose = replace(known, covariance=100 * known.covariance)
    assert not sure_frames(turned(found.views, 0.02), found.views, loose).any()
    assert not sure_focal(found.views, found.views, known)
    exact = certainty(found.views, found.tracks, LENS, ALONE, known_focal=True)
    assert exact.focal_deviations().max() < 1e-5 < known.focal_deviations().max()


def test_frames_at_one_place_do_not_keep_the_others_from_being_sure(adjusted, views, points):
    """Two photographs from a tripod: there is no direction from one to the other, before or after."""
    start, found = adjusted(noise_px=0.5)
    poses, before = found.views.cam_from_world.copy(), start.cam_from_world.copy()
    poses[1], before[1] = poses[0], before[0]
    together, old = replace(found.views, cam_from_world=poses), replace(start, cam_from_world=before)
    known = certainty(together, seen(together, points, noise_px=0.3), LENS, ALONE)
    assert sure_frames(together, old, known)[2:].all()
    one_place = replace(together, cam_from_world=np.repeat(poses[:1], FRAMES, 0))
    assert not sure_frames(one_place, replace(old, cam_from_world=one_place.cam_from_world), known).any()


def rig_of(views, moments):
    """Return the rig whose frames with one number [S], that of their first frame, move together."""
    moment = np.array(moments)
    relative = [composed(views.cam_from_world[i], inverted(views.cam_from_world[m])) for i, m in enumerate(moment)]
    return RigFrames(moment, np.arange(len(moment)) - moment, np.array(relative))


def test_frames_of_a_rig_follow_each_other(views):
    rig = rig_of(views, [0, 0, 2, 2, 4])
    assert rig.together
    assert rig.sets_scale
    assert not ALONE.together
    assert rig.moving_with(np.array([False, True, False, False, True])).tolist() == [True, True, False, False, True]
    among = np.array([True, True, True, True, True])
    assert rig.wholly(np.array([True, False, True, True, True]), among).tolist() == [False, False, True, True, True]
    assert rig.wholly(among & False, np.array([False] * 5)).tolist() == [False] * 5
    turn = Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix()
    moved = views.cam_from_world.copy()
    moved[1] = composed(moved[1], np.column_stack((turn, (1.0, 2.0, 3.0))))
    placed = rig.followed(moved, np.array([False, True, False, False, True]))
    np.testing.assert_allclose(placed[0], composed(moved[0], np.column_stack((turn, (1.0, 2.0, 3.0)))), atol=1e-12)
    np.testing.assert_array_equal(placed[2:], moved[2:])


def test_an_adjusted_rig_stays_rigid_and_in_its_scale(views, points):
    rig = rig_of(views, [0, 0, 2, 2, 4])
    start, rng = views.cam_from_world.copy(), np.random.default_rng(2)
    for first in (2, 4):
        shift = np.column_stack((Rotation.from_rotvec(0.03 * rng.normal(size=3)).as_matrix(), 0.1 * rng.normal(size=3)))
        for frame in np.flatnonzero(rig.moment == first):
            start[frame] = composed(composed(rig.cam_from_rig[frame], shift), views.cam_from_world[first])
    tracks = seen(views, points, noise_px=0.2)
    lens = np.array([0, 1, 0, 1, 0])
    found = adjust(replace(views, cam_from_world=start), tracks, Adjusted(lens, rig), rounds=3)
    assert found.used.all()
    for frame in (1, 3):
        relative = composed(found.views.cam_from_world[frame], inverted(found.views.cam_from_world[frame - 1]))
        np.testing.assert_allclose(relative, rig.cam_from_rig[frame], atol=1e-12)
    # The first moment stays, and the rig's baseline sets the scale: no alignment is needed.
    np.testing.assert_allclose(found.views.cam_from_world, views.cam_from_world, atol=0.01)
    assert np.abs(start - views.cam_from_world).max() > 0.05
    held = adjust(found.views, tracks, Adjusted(np.arange(FRAMES), rig, focal=False), rounds=1)
    np.testing.assert_allclose(held.views.focal, found.views.focal)
    still = adjust(views, tracks, Adjusted(lens, rig, poses=False), rounds=1)
    np.testing.assert_allclose(still.views.cam_from_world, views.cam_from_world, atol=1e-12)


def test_a_rig_is_more_certain_than_its_frames_alone(views, points):
    rig = rig_of(views, [0, 0, 2, 2, 4])
    tracks = seen(views, points[:60], noise_px=0.5)
    alone, rigid = (certainty(views, tracks, LENS, which) for which in (ALONE, rig))
    for index in range(FRAMES):
        deviations = [_relative(views, views, each, index)[1] for each in (alone, rigid)]
        assert (deviations[1] < deviations[0]).all()
    block = rigid.covariance[:12, :12]
    moves = np.zeros((6, 12))  # how the second frame moves in the rig, less how the first one does
    rotation, shift = rig.cam_from_rig[1, :, :3], rig.cam_from_rig[1, :, 3]
    moves[:3, :3] = moves[3:, 3:6] = rotation
    moves[3:, :3] = np.cross(shift, rotation.T).T
    moves[:, 6:] = -np.eye(6)
    np.testing.assert_allclose(moves @ block @ moves.T, 0, atol=1e-9 * np.abs(block).max() + 1e-15)


def test_frames_of_one_moment_are_accepted_together(views, points):
    held_out = seen(views, points, noise_px=0.3)
    old = turned(views, 1.0, frames=(1, 2, 4))
    # The new camera of frame 3 is worse than the old one by more than that of frame 2 is better.
    new = views.merged(turned(views, 6.0), np.arange(FRAMES) == 3)
    judge = Judge.of(held_out, [old, new])
    _, accepted = accept_frames(judge, old, new, np.ones(FRAMES, bool), moment=np.array([0, 0, 2, 2, 4]))
    assert accepted.tolist() == [True, True, False, False, True]
