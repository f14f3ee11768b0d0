import numpy as np
import pytest
from box_views import assert_true, camera, cast, view
from colmap_writing import write_text
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.optimize import least_squares

from qvggt.data.colmap import ColmapCamera
from qvggt.data.eth3d import Eth3d, project_thin_prism_fisheye
from qvggt.data.frames import pinhole
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

SIZE = (56, 42)
INTRINSICS = pinhole((60.0, 61.0), (27.5, 21.0))
PINHOLE = (0, "PINHOLE", *SIZE, (60.0, 61.0, 27.5, 21.0))
RAW_SIZE = (120, 90)
RAW_PARAMS = (128.0, 127.0, 61.0, 44.0, -0.02, 0.03, 0.001, -0.002, -0.01, 0.004, 0.0005, -0.0004)
RAW = (0, "THIN_PRISM_FISHEYE", *RAW_SIZE, RAW_PARAMS)
OPTIONS = ImageOptions(56, 14)


def distorted_depth(index):
    """Depth as the original camera sees it: for each of its pixels, the ray that it is projected from."""
    lens = ColmapCamera(*RAW[1:])
    u, v = (grid.ravel() for grid in np.meshgrid(np.arange(RAW_SIZE[0]) + 0.5, np.arange(RAW_SIZE[1]) + 0.5))
    x, y = (u - RAW_PARAMS[2]) / RAW_PARAMS[0], (v - RAW_PARAMS[3]) / RAW_PARAMS[1]
    for _ in range(50):  # fixed point: move the ray by what its projection misses
        seen_u, seen_v = project_thin_prism_fisheye(lens, x, y)
        x, y = x + (u - seen_u) / RAW_PARAMS[0], y + (v - seen_v) / RAW_PARAMS[1]
    assert np.abs(project_thin_prism_fisheye(lens, x, y)[0] - u).max() < 1e-6
    depth, _ = cast(np.stack((x, y, np.ones_like(x)), -1), *camera(index))
    return depth.reshape(RAW_SIZE[::-1])


def write_scene(root, name="courtyard", depth=True):
    folder = root / name
    (folder / "images" / "dslr_images_undistorted").mkdir(parents=True)
    names = [f"DSC_{286 + index:04d}.JPG" for index in range(2)]
    for index, photo in enumerate(names):
        seen = view(index, INTRINSICS, SIZE)
        path = folder / "images" / "dslr_images_undistorted" / photo
        Image.fromarray(seen.photo).save(path, quality=98, subsampling=0)
    for calibration, lens, prefix in (("undistorted", PINHOLE, "dslr_images_undistorted"), ("jpg", RAW, "dslr_images")):
        images = [(i, f"{prefix}/{photo}", 0, *camera(i)) for i, photo in enumerate(names)]
        write_text(folder / f"dslr_calibration_{calibration}", [lens], images)
    if depth:
        (folder / "ground_truth_depth" / "dslr_images").mkdir(parents=True)
        for index, photo in enumerate(names):
            values = distorted_depth(index)
            values[:20] = np.inf
            (folder / "ground_truth_depth" / "dslr_images" / photo).write_bytes(values.astype("<f4").tobytes())


def test_known_cameras_and_depth_of_the_original_lens_come_back(tmp_path):
    write_scene(tmp_path)
    reader = Eth3d(tmp_path)
    (record,) = reader.sequences()
    assert record.name == "courtyard"
    assert record.frames == ("dslr_images_undistorted/DSC_0286.JPG", "dslr_images_undistorted/DSC_0287.JPG")
    scene = reader.load(record, (1, 0), OPTIONS)
    assert np.allclose(scene.cam_from_world[0], np.column_stack(camera(1)))
    # The nearest measurement is up to half an original pixel away: 0.5 / 128 of the depth, more on slanted walls.
    assert_true(scene, 0.03, shade=0.02)
    assert not scene.valid[:, :5].any()
    assert scene.valid[:, 15:].all()


def test_scene_without_depth_has_cameras(tmp_path):
    write_scene(tmp_path, depth=False)
    reader = Eth3d(tmp_path)
    scene = reader.load(reader.sequences()[0], (0,), OPTIONS)
    assert scene.depth is None
    assert scene.intrinsics is not None


@settings(max_examples=20, deadline=None)
@given(x=st.floats(-0.8, 0.8), y=st.floats(-0.6, 0.6))
def test_lens_without_terms_is_equidistant_and_with_terms_is_invertible(x, y):
    plain = ColmapCamera("THIN_PRISM_FISHEYE", 100, 100, (100.0, 100.0, 50.0, 50.0, *[0.0] * 8))
    u, v = project_thin_prism_fisheye(plain, np.array([x]), np.array([y]))
    assert np.hypot(u - 50, v - 50)[0] == pytest.approx(100 * np.arctan(np.hypot(x, y)), abs=1e-9)
    assert np.allclose((u - 50) * y, (v - 50) * x)
    lens = ColmapCamera(*RAW[1:])
    target = np.concatenate(project_thin_prism_fisheye(lens, np.array([x]), np.array([y])))
    found = least_squares(
        lambda ray: np.concatenate(project_thin_prism_fisheye(lens, ray[:1], ray[1:])) - target, [0.0, 0.0]
    )
    assert np.allclose(found.x, [x, y], atol=1e-5)


R2 = 0.3**2 + 0.2**2  # of the point u = 0.3, v = 0.2, below


@pytest.mark.parametrize(
    ("index", "expected"),  # the lens model's terms one by one, for a coefficient of 1
    [
        (4, (0.3 * R2, 0.2 * R2)),
        (5, (0.3 * R2**2, 0.2 * R2**2)),
        (6, (2 * 0.3 * 0.2, R2 + 2 * 0.2**2)),
        (7, (R2 + 2 * 0.3**2, 2 * 0.3 * 0.2)),
        (8, (0.3 * R2**3, 0.2 * R2**3)),
        (9, (0.3 * R2**4, 0.2 * R2**4)),
        (10, (R2, 0)),
        (11, (0, R2)),
    ],
)
def test_terms_of_the_lens(index, expected):
    params = [1.0, 1.0, *[0.0] * 10]
    params[index] = 1.0
    angle = np.hypot(0.3, 0.2)
    x, y = np.tan(angle) * np.array([0.3, 0.2]) / angle  # the ray at that angle
    u, v = project_thin_prism_fisheye(ColmapCamera("THIN_PRISM_FISHEYE", 1, 1, tuple(params)), x, y)
    assert (u - 0.3, v - 0.2) == pytest.approx(expected, abs=1e-12)


def test_errors_say_what_was_looked_for(tmp_path):
    with pytest.raises(QvggtError, match=r"<scene>/dslr_calibration_undistorted was looked for"):
        Eth3d(tmp_path).sequences()
    with pytest.raises(QvggtError, match="no split 'train'"):
        Eth3d(tmp_path, "train")
    write_scene(tmp_path)
    reader = Eth3d(tmp_path)
    (record,) = reader.sequences()
    depth = tmp_path / "courtyard/ground_truth_depth/dslr_images/DSC_0286.JPG"
    depth.write_bytes(depth.read_bytes()[:-4])
    with pytest.raises(QvggtError, match="43196 bytes, not the 43200 of 120x90"):
        reader.load(record, (0,), OPTIONS)
    depth.unlink()
    with pytest.raises(QvggtError, match=r"dslr_images/DSC_0286\.JPG was looked for"):
        reader.load(record, (0,), OPTIONS)
    (tmp_path / "courtyard/dslr_calibration_jpg/cameras.txt").unlink()
    with pytest.raises(QvggtError, match=r"dslr_calibration_jpg/cameras\.txt was looked for"):
        reader.load(record, (0,), OPTIONS)
    (tmp_path / "courtyard/images/dslr_images_undistorted").rename(tmp_path / "courtyard/images/elsewhere")
    with pytest.raises(QvggtError, match=r"DSC_0286\.JPG was looked for"):
        Eth3d(tmp_path).sequences()
