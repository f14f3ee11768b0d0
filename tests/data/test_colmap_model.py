import numpy as np
import pytest
from box_views import camera
from colmap_writing import write_binary, write_text
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from qvggt.data.colmap import ColmapCamera, find_model, read_model
from qvggt.types import QvggtError

CAMERAS = [
    (1, "SIMPLE_PINHOLE", 64, 48, (50.0, 31.0, 23.0)),
    (2, "PINHOLE", 640, 480, (500.0, 510.0, 320.5, 239.5)),
    (7, "SIMPLE_RADIAL", 64, 48, (50.0, 31.0, 23.0, -0.1)),
    (9, "OPENCV", 64, 48, (50.0, 52.0, 31.0, 23.0, 0.0, 0.0, 0.0, 0.0)),
]
IMAGES = [
    (4, "sub folder/b 2.jpg", 2, *camera(3)),
    (2, "a.jpg", 1, *camera(0)),
    (3, "c.jpg", 7, *camera(1)),
    (5, "d.jpg", 9, *camera(2)),
]
WRITERS = pytest.mark.parametrize("write", [write_text, write_binary])


@WRITERS
def test_model_comes_back(tmp_path, write):
    write(tmp_path, CAMERAS, IMAGES)
    cameras, images = read_model(tmp_path)
    assert cameras == {number: ColmapCamera(*rest) for number, *rest in CAMERAS}
    assert [image.name for image in images] == ["a.jpg", "c.jpg", "d.jpg", "sub folder/b 2.jpg"]
    truth = {name: (number, np.column_stack(pose)) for _, name, number, *pose in IMAGES}
    for image in images:
        assert image.camera_id == truth[image.name][0]
        assert np.allclose(image.cam_from_world, truth[image.name][1], atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(quaternion=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternion_is_scalar_first(tmp_path_factory, quaternion):
    folder = tmp_path_factory.mktemp("model")
    (folder / "cameras.txt").write_text("1 SIMPLE_PINHOLE 4 4 2 2 2\n")
    (folder / "images.txt").write_text(f"1 {' '.join(map(repr, quaternion))} 1 2 3 1 a.jpg\n\n")
    (image,) = read_model(folder)[1]
    w, *xyz = quaternion
    assert np.allclose(image.cam_from_world[:, :3], Rotation.from_quat([*xyz, w]).as_matrix())
    assert image.cam_from_world[:, 3].tolist() == [1, 2, 3]


def test_intrinsics_and_distortion_of_the_models():
    assert ColmapCamera("SIMPLE_RADIAL", 64, 48, (50.0, 31.0, 23.0, 0.0)).intrinsics().tolist() == [
        [50, 0, 31],
        [0, 50, 23],
        [0, 0, 1],
    ]
    assert ColmapCamera("PINHOLE", 64, 48, (50.0, 51.0, 31.0, 23.0)).intrinsics().tolist() == [
        [50, 0, 31],
        [0, 51, 23],
        [0, 0, 1],
    ]
    distorted = {number: ColmapCamera(*rest).is_distorted() for number, *rest in CAMERAS}
    assert distorted == {1: False, 2: False, 7: True, 9: False}
    assert ColmapCamera("OPENCV_FISHEYE", 64, 48, (50.0, 51.0, 31.0, 23.0, 0.0, 0.0, 0.0, 0.0)).is_distorted()


def test_places_of_a_model(tmp_path):
    assert find_model(tmp_path) is None
    for place, write in (
        ("colmap", write_text),
        ("sparse", write_binary),
        ("sparse/0", write_binary),
        (".", write_text),
    ):
        write(tmp_path / place, CAMERAS, IMAGES)
        assert find_model(tmp_path) == tmp_path / place


@WRITERS
def test_text_is_preferred_and_files_may_not_be_missing(tmp_path, write):
    write(tmp_path, CAMERAS, IMAGES)
    (cameras_file,) = tmp_path.glob("cameras.*")
    cameras_file.unlink()
    with pytest.raises(QvggtError, match=f"{cameras_file.name} was looked for"):
        read_model(tmp_path)
    with pytest.raises(QvggtError, match=r"cameras\.txt was looked for"):
        read_model(tmp_path / "nowhere")


@WRITERS
def test_truncated_model_is_an_error(tmp_path, write):
    write(tmp_path, CAMERAS, IMAGES)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[: content.rstrip().rfind(b"\n") - 40] if write is write_text else content[:-30])
        with pytest.raises(QvggtError, match=r"damaged|lacks"):
            read_model(tmp_path)
        path.write_bytes(content)


@pytest.mark.parametrize("line", ["1 PINHOLE 4 4 2 2 2", "1 SPHERE 4 4 2", "one PINHOLE 4 4 2 2 2 2", "1 PINHOLE"])
def test_damaged_camera_is_an_error(tmp_path, line):
    write_text(tmp_path, CAMERAS, IMAGES)
    (tmp_path / "cameras.txt").write_text(line + "\n")
    with pytest.raises(QvggtError, match="damaged"):
        read_model(tmp_path)


@pytest.mark.parametrize("pose", ["0 0 0 0 1 2 3", "1 0 0 0 nan 2 3"])
def test_pose_that_is_none_is_an_error(tmp_path, pose):
    write_text(tmp_path, CAMERAS, IMAGES)
    (tmp_path / "images.txt").write_text(f"1 {pose} 1 a.jpg\n\n")
    with pytest.raises(QvggtError, match=r"pose of image a\.jpg"):
        read_model(tmp_path)


@WRITERS
def test_image_of_a_camera_that_is_not_there_is_an_error(tmp_path, write):
    write(tmp_path, CAMERAS[:1], IMAGES)
    with pytest.raises(QvggtError, match="names camera 2"):
        read_model(tmp_path)
