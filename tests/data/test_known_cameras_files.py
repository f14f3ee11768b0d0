"""Known cameras are read from COLMAP (as pycolmap writes it), TUM, cameras.json and rig files, and checked."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qvggt.data.known_cameras import of_frames, read_intrinsics, read_poses, read_rig
from qvggt.export import write_cameras
from qvggt.types import FrameMap, QvggtError

NAMES = ("a.jpg", "b.jpg", "c.jpg")
MAPS = (FrameMap((400, 300), (0.25, 0.25), (0.0, 0.0)),) * 3
POSES = np.array(
    [np.column_stack((Rotation.from_rotvec([0.1 * i, 0.3, -0.2]).as_matrix(), (i, 1.0, -i))) for i in range(3)]
)


@pytest.fixture
def model(tmp_path):
    """Return a function that writes a COLMAP model by pycolmap, as text or binary."""
    pycolmap = pytest.importorskip("pycolmap")

    def write(cameras, binary=False, prefix=""):
        built = pycolmap.Reconstruction()
        for number, (kind, params, size) in enumerate(cameras, 1):
            camera = pycolmap.Camera(model=kind, width=size[0], height=size[1], params=params, camera_id=number)
            built.add_camera_with_trivial_rig(camera)
        for index, name in enumerate(NAMES):
            camera_id = min(index + 1, len(cameras))
            image = pycolmap.Image(name=prefix + name, camera_id=camera_id, image_id=index + 1)
            pose = pycolmap.Rigid3d(pycolmap.Rotation3d(POSES[index, :, :3]), POSES[index, :, 3])
            built.add_image_with_trivial_frame(image, pose)
        (built.write_binary if binary else built.write_text)(str(tmp_path))
        return tmp_path

    return write


@pytest.mark.parametrize("binary", [False, True])
def test_read_intrinsics__one_camera_of_pycolmap_is_that_of_all_frames(model, binary):
    folder = model([("PINHOLE", [350.0, 360.0, 201.0, 149.0], (400, 300))], binary)
    known = read_intrinsics(folder / f"cameras.{'bin' if binary else 'txt'}", NAMES, MAPS)
    assert set(known) == set(NAMES)
    np.testing.assert_allclose(known["b.jpg"], [[350, 0, 201], [0, 360, 149], [0, 0, 1]])


def test_read_intrinsics__several_cameras_are_told_apart_by_the_image_file(model, caplog):
    cameras = [
        ("SIMPLE_PINHOLE", [350.0, 200.0, 150.0], (400, 300)),
        ("SIMPLE_RADIAL", [800.0, 400.0, 300.0, 0.1], (800, 600)),  # twice the resolution
    ]
    folder = model(cameras, prefix="images/")
    known = read_intrinsics(folder / "cameras.txt", NAMES, MAPS)
    assert [known[name][0, 0] for name in NAMES] == [350, 400, 400]
    np.testing.assert_allclose(known["c.jpg"][:2, 2], (200, 150))
    assert "distortion" in caplog.text


def test_read_intrinsics__another_aspect_ratio_is_refused(model):
    folder = model([("SIMPLE_PINHOLE", [350.0, 150.0, 200.0], (300, 400))])
    with pytest.raises(QvggtError, match=r"300x400 px, and the photograph 400x300"):
        read_intrinsics(folder / "cameras.txt", NAMES, MAPS)


@pytest.mark.parametrize("line", ["1 PINHOLE 400 300 -350 350 200 150", "1 PINHOLE 400 300 nan 350 200 150", "1 X"])
def test_read_intrinsics__impossible_cameras_are_refused(tmp_path, line):
    (tmp_path / "cameras.txt").write_text(line)
    with pytest.raises(QvggtError, match=r"cameras\.txt"):
        read_intrinsics(tmp_path / "cameras.txt", NAMES, MAPS)


@pytest.mark.parametrize("binary", [False, True])
def test_read_poses__of_pycolmap(model, binary):
    folder = model([("SIMPLE_PINHOLE", [350.0, 200.0, 150.0], (400, 300))], binary)
    poses, unit = read_poses(folder / f"images.{'bin' if binary else 'txt'}", NAMES)
    assert unit == "model"
    np.testing.assert_allclose([poses[name] for name in NAMES], POSES, atol=1e-9)


def trajectory(times):
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for time, pose in zip(times, POSES, strict=True):
        center, xyzw = -pose[:, :3].T @ pose[:, 3], Rotation.from_matrix(pose[:, :3].T).as_quat()
        lines.append(" ".join(map(repr, [time, *center.tolist(), *xyzw.tolist()])))
    return "\n".join(lines)


def test_read_poses__tum_by_order_or_by_timestamp(tmp_path):
    (tmp_path / "t.txt").write_text(trajectory([0.0, 1.0, 2.0]))
    poses, unit = read_poses(tmp_path / "t.txt", NAMES)
    assert unit == "meter"
    np.testing.assert_allclose([poses[name] for name in NAMES], POSES, atol=1e-9)
    (tmp_path / "t.txt").write_text(trajectory([1305031102.175, 1305031102.211, 1305031102.243]))
    poses, _ = read_poses(tmp_path / "t.txt", ["1305031102.244.png", "1305031102.170.png"])
    np.testing.assert_allclose(poses["1305031102.244.png"], POSES[2], atol=1e-9)
    np.testing.assert_allclose(poses["1305031102.170.png"], POSES[0], atol=1e-9)
    poses, _ = read_poses(tmp_path / "t.txt", ["1305031102211000000.png"])  # in nanoseconds, as EuRoC has them
    np.testing.assert_allclose(poses["1305031102211000000.png"], POSES[1], atol=1e-9)
    (tmp_path / "t.txt").write_text(trajectory([0.0, 1.0, 2.0]))
    poses, _ = read_poses(tmp_path / "t.txt", ["1.jpg", "2.jpg", "3.jpg"])  # numbers that are no times
    np.testing.assert_allclose(poses["1.jpg"], POSES[0], atol=1e-9)
    with pytest.raises(QvggtError, match="3 poses for 2 frames"):
        read_poses(tmp_path / "t.txt", NAMES[:2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 1 2 3 0 0 0 2", "quaternion"),
        ("0 1 2 inf 0 0 0 1", "quaternion"),
        ("0 1 2 3 0 0 0 1\n0 1 2", "8 numbers a line"),
        ("0 1 2 3 0 0 0 x", "8 numbers a line"),
        ("hello", "COLMAP image file"),
    ],
)
def test_read_poses__damaged_trajectories(tmp_path, text, words):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(QvggtError, match=words):
        read_poses(tmp_path / "t.txt", NAMES)


@pytest.mark.parametrize("unit", ["meter", "model"])
def test_read_poses__of_cameras_json(room, tmp_path, unit):
    write_cameras(tmp_path / "cameras.json", room, unit)
    poses, found = read_poses(tmp_path / "cameras.json", room.names)
    assert found == unit
    np.testing.assert_allclose([poses[name] for name in room.names], room.cam_from_world, atol=1e-7)
    document = json.loads((tmp_path / "cameras.json").read_text())
    document["frames"][1]["cam_from_world"][0][0] = 2.0
    (tmp_path / "cameras.json").write_text(json.dumps(document))
    with pytest.raises(QvggtError, match=r"room_02\.jpg.*not orthonormal.*--poses"):
        read_poses(tmp_path / "cameras.json", room.names)
    del document["frames"][1]["name"]
    (tmp_path / "cameras.json").write_text(json.dumps(document))
    with pytest.raises(QvggtError, match="'name' is missing"):
        read_poses(tmp_path / "cameras.json", room.names)


def test_of_frames__other_names_are_said_once_with_the_nearest(caplog):
    values = {"x/a.jpg": 1, "b.JPG": 2, "c.jpg": 3}
    assert of_frames(values, NAMES, "poses") == {"a.jpg": 1, "c.jpg": 3}
    assert "1 of 3 poses are of no frame, first 'b.JPG': did you mean 'b.jpg'?" in caplog.text


GOOD = {
    "cameras": {"left": {"cam_from_rig": np.eye(3, 4).tolist()}, "right": {"cam_from_rig": POSES[1].tolist()}},
    "groups": [{"left": "a.jpg", "right": "b.jpg"}],
}


def test_read_rig(tmp_path):
    (tmp_path / "rig.json").write_text(json.dumps(GOOD))
    rig = read_rig(tmp_path / "rig.json")
    np.testing.assert_allclose(rig.cam_from_rig["right"], POSES[1])
    assert rig.groups == [{"left": "a.jpg", "right": "b.jpg"}]
    unknown = {"cameras": {"left": {"cam_from_rig": None}, "right": {"cam_from_rig": None}}}
    (tmp_path / "rig.json").write_text(json.dumps(GOOD | unknown))
    assert read_rig(tmp_path / "rig.json").cam_from_rig is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"groups": [{"left": "a.jpg", "top": "b.jpg"}]}, "not among the cameras"),
        ({"groups": [{"left": "a.jpg"}]}, "at least two cameras"),
        ({"groups": [{"left": "a.jpg", "right": "a.jpg"}]}, "in two groups"),
        ({"groups": 3}, "rig file"),
        ({"cameras": {"left": {"cam_from_rig": None}, "right": {"cam_from_rig": POSES[1].tolist()}}}, "is null"),
        ({"cameras": {"left": {"cam_from_rig": [1, 2]}, "right": {"cam_from_rig": POSES[1].tolist()}}}, "rig file"),
        ({"cameras": {n: {"cam_from_rig": np.zeros((3, 4)).tolist()} for n in ("left", "right")}}, "not orthonormal"),
    ],
)
def test_read_rig__damaged(tmp_path, change, words):
    (tmp_path / "rig.json").write_text(json.dumps(GOOD | change))
    with pytest.raises(QvggtError, match=words):
        read_rig(tmp_path / "rig.json")
