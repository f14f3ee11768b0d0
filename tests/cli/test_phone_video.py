"""A walk through a room as a phone would film it: from the video to a COLMAP model with undistorted images."""

import json
import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.interpolate import CubicSpline
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation, RotationSpline

from qvggt.data.rooms.draw import draw_room
from qvggt.data.rooms.family import SPLITS
from qvggt.data.rooms.overlap import place_cameras
from qvggt.data.rooms.pack import pack_rooms
from qvggt.data.rooms.paths import PathDrawer
from qvggt.data.rooms.render import render
from qvggt.export.result import open_result
from qvggt.postprocess.frames import camera_centers

pytestmark = pytest.mark.render
WIDTH, HEIGHT, FRAMES, EXPOSURES, RADIAL, SEED = 270, 480, 20, 2, -0.1, 91


def walk():
    """Return photographs [F, H, W, 3] of a smooth walk with a shaking hand, blurred by motion, and the focal length."""
    family = replace(SPLITS["wide"].family, path="walk")
    room = draw_room(SEED, family)
    packed = pack_rooms([room], torch.device("cpu"))
    drawers = [PathDrawer(SEED, room, 8, family)]
    cameras, lenses, _ = place_cameras([room], packed, drawers, (HEIGHT, WIDTH), min_overlap=family.min_overlap)
    knots, shake = np.linspace(0, 1, 8), np.random.default_rng(0).normal(size=(12, 3)) * np.radians(0.3)
    times = ((np.arange(FRAMES)[:, None] + np.linspace(0, 0.1, EXPOSURES)) / FRAMES).ravel()
    turns = Rotation.from_rotvec(CubicSpline(np.linspace(0, 1, 12), shake)(times))
    rotations = (turns * RotationSpline(knots, Rotation.from_matrix(cameras[0, :, :, :3]))(0.5 * times)).as_matrix()
    centers = CubicSpline(knots, camera_centers(cameras[0]))(0.5 * times)
    poses = np.concatenate((rotations, -(rotations @ centers[..., None])), 2)
    chosen = (
        torch.from_numpy(poses).float()[None],
        torch.from_numpy(lenses[0][:1].repeat(len(poses), 0)).float()[None],
    )
    images = render(packed, chosen, (HEIGHT, WIDTH), 1)[0][0].numpy().reshape(FRAMES, EXPOSURES, 3, HEIGHT, WIDTH)
    return images.mean(1), lenses[0, 0, 0, 0]


def film(path, images, focal):
    """Write what a distorting lens sees of photographs as a video that is stored lying and shown upright."""
    av = pytest.importorskip("av")
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    seen = np.stack((u - WIDTH / 2, v - HEIGHT / 2), -1) / focal
    rays = seen
    for _ in range(30):
        rays = seen / (1 + RADIAL * (rays**2).sum(-1, keepdims=True))
    column, row = (rays * focal + (WIDTH / 2, HEIGHT / 2) - 0.5).transpose(2, 0, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=Fraction(30), options={"crf": "20"})
        stream.height, stream.width, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in images:
            bent = np.stack([map_coordinates(channel, (row, column), order=1, mode="nearest") for channel in image], -1)
            lying = np.rot90(np.clip(np.rint(255 * bent), 0, 255).astype(np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(lying), format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))


def test_a_phone_video_becomes_a_colmap_model(qvggt, tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    images, focal = walk()
    film(tmp_path / "walk.mp4", images, focal)
    frames, result = tmp_path / "frames", tmp_path / "result"
    for command in (
        ("frames", tmp_path / "walk.mp4", "--number", 10, "-o", frames),
        ("reconstruct", "nano", frames / "images", "-o", result),
        ("refine", result),
        ("view", result, "--html", tmp_path / "walk.html"),
        ("export", result, "-o", tmp_path / "colmap", "--format", "colmap"),
    ):
        done = qvggt(*command)
        assert done.status == 0, done
        assert command[0] != "refine" or "lens distortion of -0." in done.out
    chosen = json.loads((frames / "frames.json").read_text())["frames"]
    assert len(chosen) == 10
    opened = open_result(result)
    assert all(frame.original_size == (WIDTH, HEIGHT) for frame in opened.prediction.maps)  # upright
    refined = opened.info.details["refinement"]
    assert refined["kept"] == "all"
    assert refined["error_undistorted_px"] < refined["error_after_px"] < refined["error_before_px"]
    lenses = [lens for lens in opened.lenses() if lens is not None]
    assert len(lenses) >= 8
    for lens in lenses:
        assert lens.radial == pytest.approx(RADIAL, abs=0.02)
        assert lens.focal[0] == pytest.approx(focal, rel=0.02)
    model = pycolmap.Reconstruction(tmp_path / "colmap" / "sparse" / "0")
    assert model.num_reg_images() == 10
    assert model.compute_mean_reprojection_error() < 2
    assert json.loads((tmp_path / "colmap" / "export.json").read_text())["undistorted"] == len(lenses)
    for image in model.images.values():
        with Image.open(tmp_path / "colmap" / "images" / image.name) as exported:
            assert exported.size == (WIDTH, HEIGHT)
