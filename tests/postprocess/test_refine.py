import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

import qvggt
from qvggt.geometry import unproject_frames
from qvggt.options import RefineOptions
from qvggt.postprocess.frames import chosen_frames
from qvggt.postprocess.refine.refinement import frame_pairs, lens_groups, refine_prediction
from qvggt.postprocess.refine.report import summary
from qvggt.postprocess.refine.rig import RigFrames, composed, inverted
from qvggt.postprocess.refine.views import views_of
from qvggt.postprocess.robust import align_cameras
from qvggt.types import QvggtError

pytest.importorskip("pycolmap")
pytestmark = pytest.mark.render


def rotation_errors_deg(found, true):
    """Return the errors of the relative rotations of all pairs of frames."""
    found, true = found.cam_from_world.astype(np.float64), true.cam_from_world.astype(np.float64)
    errors = []
    for i, j in itertools.combinations(range(len(found)), 2):
        relative, wanted = (part[j, :, :3] @ part[i, :, :3].T for part in (found, true))
        errors.append(np.degrees(np.arccos(np.clip((np.trace(relative.T @ wanted) - 1) / 2, -1, 1))))
    return np.array(errors)


def focal_errors(found, true):
    return np.abs(found.intrinsics[:, (0, 1), (0, 1)] / true.intrinsics[:, (0, 1), (0, 1)] - 1)


@pytest.fixture(scope="module")
def refined(photographed):
    given = photographed.disturbed()
    return given, refine_prediction(given, photographed.photographs)


def test_errors_of_rotations_focal_lengths_and_depth_shrink(refined, photographed):
    given, found = refined
    truth = photographed.truth
    assert rotation_errors_deg(given, truth).mean() > 1
    assert rotation_errors_deg(found.prediction, truth).mean() < 0.2
    assert focal_errors(given, truth).min() > 0.025
    assert focal_errors(found.prediction, truth).max() < 0.008
    scale = align_cameras(found.prediction.cam_from_world, truth.cam_from_world).scale
    ratios = np.median(scale * found.prediction.depth / truth.depth, axis=(1, 2))
    assert np.abs(ratios - 1).max() < 0.02 < np.abs(np.median(given.depth / truth.depth, axis=(1, 2)) - 1).max()


def test_held_out_errors_shrink_and_are_reported(refined):
    report = refined[1].report
    assert report.kept == "all"
    assert report.held_out_tracks > 50
    assert report.error_after_px < 0.5 < 2 < report.error_before_px
    assert all(frame.error_after_px < frame.error_before_px for frame in report.frames)
    assert all(frame.refined for frame in report.frames)
    assert "4 of 4 frames" in summary(report.to_json())[0]


def test_world_frame_and_scale_are_those_of_the_input(refined):
    given, found = refined
    back = align_cameras(found.prediction.cam_from_world, given.cam_from_world)
    assert back.scale == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(back.rotation, np.eye(3), atol=1e-4)
    np.testing.assert_allclose(back.translation, 0, atol=1e-4)


def test_points_encoding_and_depth_belong_to_the_new_cameras(refined):
    import torch

    prediction = refined[1].prediction
    depth, lenses, poses = (
        torch.from_numpy(each) for each in (prediction.depth, prediction.intrinsics, prediction.cam_from_world)
    )
    np.testing.assert_allclose(prediction.world_points, unproject_frames(depth, lenses, poses).numpy(), atol=2e-4)
    np.testing.assert_allclose(prediction.pose_enc[:, :3], prediction.cam_from_world[:, :, 3])
    np.testing.assert_allclose(prediction.pose_enc[:, 7], 2 * np.arctan(75 / prediction.intrinsics[:, 1, 1]), rtol=1e-5)
    assert (prediction.intrinsics[:, :2, 2] == refined[0].intrinsics[:, :2, 2]).all()


def test_equal_runs_are_equal(refined, photographed):
    again = refine_prediction(refined[0], photographed.photographs)
    assert again.report == refined[1].report
    for name in ("cam_from_world", "intrinsics", "depth", "world_points"):
        assert getattr(again.prediction, name).tobytes() == getattr(refined[1].prediction, name).tobytes()


def test_a_frame_that_shows_another_place_stays_and_the_others_are_refined(photographed):
    given = photographed.disturbed()
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    pictures = [*photographed.photographs[:3], Image.fromarray(noise)]
    found = refine_prediction(given, pictures)
    assert [frame.refined for frame in found.report.frames] == [True, True, True, False]
    assert (found.prediction.cam_from_world[3] == given.cam_from_world[3]).all()
    assert (found.prediction.pose_enc[3] == given.pose_enc[3]).all()
    assert (found.prediction.depth[3] == given.depth[3]).all()
    first = [chosen_frames(each, range(3)) for each in (found.prediction, photographed.truth)]
    assert rotation_errors_deg(*first).mean() < 0.3
    assert "003.png" in summary(found.report.to_json())[1]


def test_without_texture_nothing_changes_and_a_sentence_says_why(photographed):
    given = photographed.disturbed()
    found = refine_prediction(given, [Image.new("RGB", (300, 300), (200, 190, 180))] * 4)
    assert found.prediction is given
    assert found.report.kept == "none"
    assert "too few matches" in summary(found.report.to_json())[0]


def part(prediction, frames):
    chosen = {
        name: getattr(prediction, name)[:frames]
        for name in ("images", "names", "maps", "cam_from_world", "intrinsics", "pose_enc", "depth", "depth_conf")
    }
    return replace(prediction, **chosen, world_points=None, world_points_conf=None)


def test_two_photographs_need_known_focal_lengths(photographed):
    given = part(photographed.disturbed(focal=1.0), 2)
    pictures = photographed.photographs[:2]
    assert "too few" in refine_prediction(given, pictures).report.note
    found = refine_prediction(given, pictures, RefineOptions(hold_focal=True))
    assert (found.prediction.intrinsics == given.intrinsics).all()
    before, after = (rotation_errors_deg(each, part(photographed.truth, 2)) for each in (given, found.prediction))
    assert after[0] <= before[0]


def test_held_poses_stay_and_focal_lengths_are_found(photographed):
    given = photographed.disturbed(degrees=0.0)
    found = refine_prediction(given, photographed.photographs, RefineOptions(hold_poses=True))
    assert found.report.kept == "focal"
    np.testing.assert_allclose(found.prediction.cam_from_world, given.cam_from_world)
    assert focal_errors(found.prediction, photographed.truth).max() < 0.005


def test_held_focal_lengths_stay_and_poses_are_found(photographed):
    given = photographed.disturbed(focal=1.0)
    found = refine_prediction(given, photographed.photographs, RefineOptions(hold_focal=True))
    assert found.report.kept == "poses"
    np.testing.assert_allclose(found.prediction.intrinsics, given.intrinsics, rtol=1e-6)
    assert rotation_errors_deg(found.prediction, photographed.truth).mean() < 0.15


def test_exact_cameras_hardly_change(photographed):
    found = refine_prediction(photographed.truth, photographed.photographs)
    assert rotation_errors_deg(found.prediction, photographed.truth).max() < 0.05
    assert focal_errors(found.prediction, photographed.truth).max() < 0.005


def test_masked_features_take_no_part(photographed, refined):
    mask = np.ones((4, 150, 150), bool)
    mask[:, :, :75] = False
    masked = refine_prediction(replace(refined[0], mask=mask), photographed.photographs).report
    assert masked.tracks < 0.75 * refined[1].report.tracks
    nothing = refine_prediction(replace(refined[0], mask=np.zeros_like(mask)), photographed.photographs).report
    assert (nothing.tracks, nothing.kept) == (0, "none")


def test_refine_reads_the_place_of_the_photographs_or_takes_them(photographed, tmp_path):
    for name, picture in zip(photographed.truth.names, photographed.photographs, strict=True):
        picture.save(tmp_path / name)
    given = photographed.disturbed(seed=1)
    from_files = qvggt.refine(given, tmp_path)
    from_memory = qvggt.refine(given, photographed.photographs, RefineOptions())
    assert from_files.report == from_memory.report
    with pytest.raises(QvggtError, match="3 images are given, and 4"):
        qvggt.refine(given, photographed.photographs[:3])
    with pytest.raises(QvggtError, match="150x150 px, and 300x300"):
        qvggt.refine(given, [picture.resize((150, 150)) for picture in photographed.photographs])
    with pytest.raises(QvggtError, match="mixed"):
        qvggt.refine(given, [*photographed.photographs[:3], str(tmp_path / "003.png")])
    (tmp_path / "002.png").unlink()
    with pytest.raises(QvggtError, match=r"'002\.png' is not in"):
        qvggt.refine(given, tmp_path)


def test_many_frames_are_matched_with_covisible_ones(photographed):
    truth = photographed.truth
    many = replace(chosen_frames(truth, [*range(4)] * 10), names=tuple(map(str, range(40))))
    assert len(frame_pairs(truth)) == 6
    pairs = frame_pairs(many)
    assert len(pairs) == len(set(pairs)) <= 40 * 14
    assert all(0 <= i < j < 40 for i, j in pairs)
    assert {(i, i + 1) for i in range(39)} <= set(pairs)


def test_photographs_of_one_size_and_similar_focal_share_a_lens(photographed):
    truth = photographed.truth
    views = views_of(truth, [(300, 300)] * 4)
    np.testing.assert_allclose(views.focal, 2 * truth.intrinsics[:, (0, 1), (0, 1)], rtol=1e-6)
    alone = RigFrames.of(truth, views.cam_from_world)
    assert lens_groups(truth, views, alone).tolist() == [0, 0, 0, 0]
    zoomed = replace(views, focal=views.focal * np.array([1, 1, 1, 2])[:, None])
    assert lens_groups(truth, zoomed, alone).tolist() == [0, 1, 2, 3]
    other = replace(truth, maps=(*truth.maps[:3], replace(truth.maps[3], original_size=(400, 300))))
    assert lens_groups(other, views, alone).tolist() == [0, 0, 0, 3]
    names = truth.names
    rig = RigFrames.of(truth, views.cam_from_world, [{"left": names[0], "right": names[1]}, {"left": names[2]}])
    assert lens_groups(truth, views, rig).tolist() == [0, 1, 0, 0]


def relative(prediction, one, other):
    cameras = prediction.cam_from_world.astype(np.float64)
    return composed(cameras[other], inverted(cameras[one]))


def rigidly_disturbed(photographed):
    """Return a prediction whose frames 2 and 3 are turned and moved together, with wrong focal lengths; its moments."""
    truth = photographed.truth
    cameras = truth.cam_from_world.astype(np.float64)
    shift = np.column_stack((Rotation.from_rotvec([0.02, -0.025, 0.01]).as_matrix(), (0.05, -0.03, 0.04)))
    moved = composed(shift, cameras[2])
    cameras[3] = composed(relative(truth, 2, 3), moved)
    cameras[2] = moved
    names = truth.names
    moments = ({"left": names[0], "right": names[1]}, {"left": names[2], "right": names[3]})
    return photographed.moved(cameras, 1.03), moments


def test_a_rig_stays_rigid_and_its_poses_are_refined(photographed):
    truth = photographed.truth
    given, moments = rigidly_disturbed(photographed)
    found = refine_prediction(given, photographed.photographs, RefineOptions(rig_moments=moments))
    assert found.report.kept == "all"
    assert all(frame.refined for frame in found.report.frames)
    for one in (0, 2):
        np.testing.assert_allclose(relative(found.prediction, one, one + 1), relative(given, one, one + 1), atol=2e-6)
    assert rotation_errors_deg(given, truth).mean() > 0.5
    assert rotation_errors_deg(found.prediction, truth).max() < 0.2
    # Lengths are the rig's: they are right without any alignment.
    wanted, before, after = (np.linalg.norm(relative(each, 0, 2)[:, 3]) for each in (truth, given, found.prediction))
    assert abs(after / wanted - 1) < 0.02 < abs(before / wanted - 1)
    assert focal_errors(found.prediction, truth).max() < 0.015


def test_rig_frames_are_named_once_and_exist(photographed):
    names, refused = photographed.truth.names, []
    for moments in (({"a": names[0], "b": names[0]},), ({"a": names[0]}, {"a": names[0]}), ({"a": "other.png"},)):
        with pytest.raises(QvggtError) as error:
            refine_prediction(photographed.truth, photographed.photographs, RefineOptions(rig_moments=moments))
        refused.append(str(error.value))
    assert ["named twice" in text for text in refused] == [True, True, False]
    assert "no frame 'other.png'" in refused[2]


def test_a_result_with_a_known_rig_is_refined_as_one(photographed):
    from qvggt.api.refine import refined_result
    from qvggt.export.result import ResultInfo

    given, moments = rigidly_disturbed(photographed)
    info = ResultInfo(details={"known": {"rig": {"moments": list(moments)}}})
    found, info = refined_result(given, info, photographed.photographs, RefineOptions())
    assert info.details["refinement"]["kept"] == "all"
    np.testing.assert_allclose(relative(found.prediction, 2, 3), relative(given, 2, 3), atol=2e-6)
    unknown = ResultInfo(details={"known": {"rig": {"groups": 2}}})  # of which frames, is not known
    found, _ = refined_result(given, unknown, photographed.photographs, RefineOptions())
    np.testing.assert_array_equal(found.prediction.cam_from_world, given.cam_from_world)
