"""Loops: the drift of a path that returns is removed, in memory and in files, and one that is not sure stays."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import qvggt
from qvggt import geometry
from qvggt.data.rooms.family import room_scene
from qvggt.geometry import Similarity
from qvggt.inference import kept_windows, windows
from qvggt.inference.windows import predict_windows
from qvggt.options import InferenceOptions, WindowOptions
from qvggt.postprocess.frames import camera_centers, chosen_frames
from qvggt.postprocess.similarity import moved_cameras, transformed
from qvggt.types import FrameMap, ImageSet, Prediction, QvggtError

SIZE = (28, 42)
OPEN, CLOSED = (InferenceOptions(windows=WindowOptions(8, 2, close_loops=close)) for close in (False, True))


def prediction_of(scene, order):
    cameras, intrinsics, depth = (
        torch.from_numpy(values[order]).float() for values in (scene.cam_from_world, scene.intrinsics, scene.depth)
    )
    return Prediction(
        images=scene.images[order],
        names=tuple(map(str, range(len(order)))),
        maps=(FrameMap((SIZE[1], SIZE[0]), (1.0, 1.0), (0.0, 0.0)),) * len(order),
        cam_from_world=cameras.numpy(),
        intrinsics=intrinsics.numpy(),
        pose_enc=geometry.cameras_to_pose_encoding(cameras, intrinsics, SIZE).numpy(),
        depth=depth.numpy(),
        depth_conf=np.ones_like(depth.numpy()),
    )


@pytest.fixture(scope="module")
def world():
    """A room as a perfect prediction, seen on a way there and back."""
    order = [*range(13), *reversed(range(13))]
    world = prediction_of(room_scene(9_000_001, 13, SIZE), order)
    start = Similarity(1.0, world.cam_from_world[0, :, :3].astype(float), world.cam_from_world[0, :, 3].astype(float))
    return transformed(world, start)


def bent(part):
    """Return a part of the world whose cameras turn one degree more each frame, and whose depth grows."""
    cameras = part.cam_from_world.astype(np.float64)
    for index, center in enumerate(camera_centers(cameras)):
        turn = Rotation.from_euler("y", index, degrees=True).as_matrix()
        by = Similarity(1.01**index, turn, center - turn @ center + (0, 0.01 * index, 0))
        cameras[index] = moved_cameras(cameras[index : index + 1], by)[0]
    growth = np.float32(1.01) ** np.arange(len(cameras), dtype=np.float32)
    return replace(part, cam_from_world=cameras.astype(np.float32), depth=part.depth * growth[:, None, None])


class Model:
    """Stands in for passes of a model: windows are bent, passes over two windows are right unless they are changed."""

    def __init__(self, world, change=lambda part, count: part):
        self.world, self.change, self.compared, self.windows = world, change, 0, 0

    def predict(self, _model, images, *_rest, **_options):
        frames = [int(name) for name in images.names]
        part = chosen_frames(self.world, frames)
        if frames == list(range(frames[0], frames[-1] + 1)):
            self.windows += 1
            return bent(part)
        self.compared += 1
        return self.change(part, self.compared)


def run(monkeypatch, model, options, **more):
    monkeypatch.setattr(windows, "predict", model.predict)
    monkeypatch.setattr(windows, "windows_key", lambda *_: str(options))
    images = ImageSet(model.world.images, model.world.maps, model.world.names)
    return predict_windows(None, images, ("camera", "depth"), options, **more)


def distance(found, world):
    return np.linalg.norm(camera_centers(found.cam_from_world)[-6:] - camera_centers(world.cam_from_world)[-6:])


def test_predict_windows__a_loop_removes_the_drift_where_the_path_returns(world, monkeypatch):
    before = run(monkeypatch, Model(world), OPEN)
    model = Model(world)
    after = run(monkeypatch, model, CLOSED)
    assert model.compared > 0
    assert distance(after, world) < 0.5 * distance(before, world)
    cameras, intrinsics = torch.from_numpy(after.cam_from_world), torch.from_numpy(after.intrinsics)
    np.testing.assert_allclose(geometry.cameras_to_pose_encoding(cameras, intrinsics, SIZE), after.pose_enc, atol=1e-5)
    assert (after.depth[-6:] < 0.98 * before.depth[-6:]).all()
    np.testing.assert_array_equal(after.depth[:8], before.depth[:8])


def elsewhere(part, count):
    """The camera comes back to another place."""
    cameras = part.cam_from_world.copy()
    cameras[len(cameras) // 2 :, :, 3] += 5
    return replace(part, cam_from_world=cameras)


def disagreeing(part, count):
    """Every second pass measures the opposite drift."""
    cameras = part.cam_from_world.copy()
    cameras[len(cameras) // 2 :, 0, 3] += 0.3 * (-1) ** count
    return replace(part, cam_from_world=cameras)


@pytest.mark.parametrize("change", [elsewhere, disagreeing])
def test_predict_windows__a_loop_that_is_not_sure_stays_open(world, monkeypatch, change):
    model = Model(world, change)
    found, expected = run(monkeypatch, model, CLOSED), run(monkeypatch, Model(world), OPEN)
    assert model.compared > 0
    for name in ("cam_from_world", "depth", "pose_enc"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_predict_windows__a_path_that_does_not_return_is_not_measured_twice(world, monkeypatch):
    model = Model(world, elsewhere)
    run(monkeypatch, model, CLOSED)
    assert model.compared <= model.windows - 2  # one pass each: the second is spared


def test_predict_windows__closed_loops_in_a_folder_equal_those_in_memory(world, monkeypatch, tmp_path):
    expected = run(monkeypatch, Model(world), CLOSED)
    model, correct, whole = Model(world), kept_windows.WindowsInMemory.correct, []

    def stopping(self, starts, corrections):
        correct(self, starts, corrections)
        if not whole:
            whole.append(True)
            raise QvggtError("stopped while loops are closed")

    monkeypatch.setattr(kept_windows.WindowsInMemory, "correct", stopping)
    with pytest.raises(QvggtError, match="stopped"):
        run(monkeypatch, model, CLOSED, folder=tmp_path)
    passes = model.windows + model.compared
    found = run(monkeypatch, model, CLOSED, folder=tmp_path)
    assert model.windows + model.compared == passes
    for name in ("cam_from_world", "depth", "pose_enc", "intrinsics", "depth_conf"):
        np.testing.assert_array_equal(np.asarray(getattr(found, name)), getattr(expected, name), err_msg=name)


def test_predict_windows__loops_are_found_again_after_a_stop_between_windows(world, monkeypatch, tmp_path):
    expected, model, add = run(monkeypatch, Model(world), CLOSED), Model(world), kept_windows.WindowsInFolder.add

    def stopping(self, start, window, loop=None):
        add(self, start, window, loop)
        raise QvggtError("stopped")

    monkeypatch.setattr(kept_windows.WindowsInFolder, "add", stopping)
    for _ in range(4):
        with pytest.raises(QvggtError, match="stopped"):
            run(monkeypatch, model, CLOSED, folder=tmp_path)
    monkeypatch.setattr(kept_windows.WindowsInFolder, "add", add)
    found = run(monkeypatch, model, CLOSED, folder=tmp_path)
    assert json.loads((tmp_path / "windows.json").read_text())["loops"]
    np.testing.assert_array_equal(np.asarray(found.cam_from_world), expected.cam_from_world)


def test_reconstruct__closes_loops_with_a_real_model():
    scene = room_scene(9_000_001, 8, SIZE)
    pictures = [(255 * image.transpose(1, 2, 0)).astype(np.uint8) for image in scene.images]
    found = qvggt.reconstruct("nano", [*pictures, *pictures[::-1]], windows=WindowOptions(4, 1, close_loops=True))
    assert found.cam_from_world.shape == (16, 3, 4)
    assert np.isfinite(found.world_points).all()
