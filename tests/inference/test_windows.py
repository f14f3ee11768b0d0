"""Long sequences in windows: ranges, alignment, and that windows of a consistent world are aligned exactly."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import qvggt
from qvggt import geometry
from qvggt.data.rooms.family import room_scene
from qvggt.geometry import Similarity
from qvggt.inference.predict import predict
from qvggt.inference.windows import predict_windows
from qvggt.options import InferenceOptions, WindowOptions
from qvggt.postprocess.similarity import similarity, transformed
from qvggt.types import FrameMap, ImageSet, Prediction, QvggtError

WINDOWS = InferenceOptions(windows=WindowOptions(4, 2))


@given(st.integers(2, 12), st.data())
@settings(deadline=None)
def test_ranges__windows_cover_all_frames_and_overlap(frames, data):
    overlap = data.draw(st.integers(1, frames - 1))
    count = data.draw(st.integers(1, 60))
    ranges = WindowOptions(frames, overlap).ranges(count)
    assert sorted({index for window in ranges for index in window}) == list(range(count))
    assert all(len(window) == min(frames, count) for window in ranges)
    for before, after in itertools.pairwise(ranges):
        assert before.start < after.start
        assert before.stop - after.start >= overlap


@pytest.mark.parametrize(("frames", "shared"), [(2, 1), (3, 2), (5, 4), (20, 4)])
def test_shared__four_frames_unless_windows_are_small(frames, shared):
    assert WindowOptions(frames).shared == shared


@pytest.mark.parametrize(("frames", "overlap"), [(1, 1), (4, 0), (4, 4), (0, 0)])
def test_window_options__refuse_impossible_windows(frames, overlap):
    with pytest.raises(QvggtError):
        WindowOptions(frames, overlap)


@pytest.fixture(scope="module")
def world():
    """A room as a perfect prediction."""
    scene = room_scene(9_000_001, 7, (28, 42))
    given = (scene.cam_from_world, scene.intrinsics, scene.depth)
    cameras, intrinsics, depth = (torch.from_numpy(values).float() for values in given)
    return Prediction(
        images=scene.images,
        names=tuple(str(index) for index in range(7)),
        maps=tuple(FrameMap((42, 28), (1.0, 1.0), (0.0, 0.0)) for _ in range(7)),
        cam_from_world=cameras.numpy(),
        intrinsics=intrinsics.numpy(),
        pose_enc=geometry.cameras_to_pose_encoding(cameras, intrinsics, (28, 42)).numpy(),
        depth=depth.numpy(),
        depth_conf=np.ones_like(scene.depth, dtype=np.float32),
        world_points=geometry.unproject(depth, intrinsics, cameras).numpy(),
        world_points_conf=np.ones_like(scene.depth, dtype=np.float32),
    )


def frames_of(prediction, first, last):
    values = {name: None if value is None else value[first:last] for name, value in vars(prediction).items()}
    return Prediction(**values)


def some_similarity(seed):
    generator = torch.Generator().manual_seed(seed)
    quaternion = torch.randn(4, generator=generator, dtype=torch.float64)
    scale = float(torch.rand(1, generator=generator)) * 3 + 0.2
    rotation = geometry.quaternion_to_matrix(quaternion)
    return Similarity(scale, rotation.numpy(), torch.randn(3, generator=generator).double().numpy())


@pytest.mark.parametrize("seed", range(5))
def test_similarity__inverts_transformed(world, seed):
    by = some_similarity(seed)
    found = similarity(transformed(world, by), world)
    assert found.scale == pytest.approx(by.scale, rel=1e-5)
    np.testing.assert_allclose(found.rotation, by.rotation, atol=1e-5, rtol=0)
    np.testing.assert_allclose(found.translation, by.translation, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_similarities__compose_and_invert(seed):
    first, second = some_similarity(seed), some_similarity(seed + 10)
    points = np.random.default_rng(seed).normal(size=(5, 3))
    np.testing.assert_allclose((first @ second).apply(points), first.apply(second.apply(points)), atol=1e-12)
    np.testing.assert_allclose((first.inverse @ first).apply(points), points, atol=1e-12)


def test_transformed__fields_stay_consistent(world):
    moved = transformed(world, some_similarity(3))
    cameras, intrinsics, depth = (torch.from_numpy(a) for a in (moved.cam_from_world, moved.intrinsics, moved.depth))
    np.testing.assert_allclose(geometry.unproject(depth, intrinsics, cameras), moved.world_points, atol=2e-4)
    encoding = geometry.cameras_to_pose_encoding(cameras, intrinsics, (28, 42))
    np.testing.assert_allclose(encoding, moved.pose_enc, atol=1e-5)


def test_predict_windows__windows_of_one_world_are_aligned(world, monkeypatch):
    answers = iter([frames_of(world, 0, 4), *(transformed(frames_of(world, *ends), some_similarity(seed))
                                              for seed, ends in enumerate([(2, 6), (3, 7)]))])  # fmt: skip
    monkeypatch.setattr("qvggt.inference.windows.predict", lambda *_, **__: next(answers))
    images = ImageSet(world.images, world.maps, world.names)
    whole = predict_windows(None, images, ("camera", "depth"), WINDOWS)
    assert whole.names == world.names
    assert len(whole.maps) == 7
    for name in ("cam_from_world", "depth", "world_points", "pose_enc"):
        np.testing.assert_allclose(getattr(whole, name), getattr(world, name), atol=2e-4, err_msg=name)


def test_similarity__ignores_depth_of_low_confidence(world):
    confidence = np.ones_like(world.depth)
    confidence[:, :, ::3] = 0.5
    depth = np.where(confidence < 1, world.depth * 9, world.depth)
    found = similarity(world, replace(world, depth=depth, depth_conf=confidence))
    assert found.scale == pytest.approx(1.0)


def image_set(count):
    images = np.random.default_rng(0).random((count, 3, 28, 28), dtype=np.float32)
    return ImageSet(images, (FrameMap((28, 28), (1.0, 1.0), (0.0, 0.0)),) * count, tuple(map(str, range(count))))


def test_predict_windows__reconstructs_a_long_sequence():
    model, images, told, parts = qvggt.load("nano"), image_set(7), [], []
    report = lambda stage, share: told.append((stage, share))  # noqa: E731
    found = predict_windows(model, images, options=WINDOWS, on_progress=report, on_window=parts.append)
    assert found.names == images.names
    assert [part.names for part in parts] == [tuple("0123"), tuple("45"), tuple("6")]
    np.testing.assert_array_equal(np.concatenate([part.world_points for part in parts]), found.world_points)
    assert found.depth.shape == (7, 28, 28)
    first = predict(model, ImageSet(images.images[:4], images.maps[:4], images.names[:4]), ("camera", "depth", "point"))
    np.testing.assert_array_equal(found.depth[:4], first.depth)
    assert told[-1][1] == pytest.approx(1.0)
    assert any(stage.startswith("window 3 of 3, ") for stage, _ in told)
    shares = [share for _, share in told]
    assert shares == sorted(shares)


def test_predict_windows__one_window_equals_predict():
    model, images, parts = qvggt.load("nano"), image_set(3), []
    found = predict_windows(model, images, ("camera",), WINDOWS, on_window=parts.append)
    assert parts == [found]
    np.testing.assert_array_equal(found.pose_enc, predict(model, images, ("camera",)).pose_enc)


def test_predict_windows__needs_camera_and_depth_heads():
    with pytest.raises(QvggtError, match="camera and depth"):
        predict_windows(qvggt.load("nano"), image_set(5), ("camera",), WINDOWS)
