"""Images of a distorted lens are exported undistorted, and the user's masks at the size of the photographs."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from qvggt import cli
from qvggt.api.export import export
from qvggt.app.cloud import display_cloud
from qvggt.app.compare import compare_results
from qvggt.export.gltf import linear_from_srgb
from qvggt.export.page import PAGE_POINTS, write_page
from qvggt.export.points import frame_points, select_points
from qvggt.export.result import Result, ResultInfo, as_shown, open_result, save_result, write_result
from qvggt.export.splat import SH_DEGREE_0
from qvggt.export.views import undistorted_image
from qvggt.options import ExportOptions, FormatOptions
from qvggt.postprocess.distortion import Lens
from qvggt.types import FrameMap, QvggtError

SIZE, FOCAL = (320, 240), 260.0
CENTER = np.array(SIZE) / 2


def checkers(rays):
    """Return a smooth pattern of values in 0..255 [N, 3] on the plane at depth 1."""
    x, y = rays.T
    return 127.5 + 120 * np.stack((np.sin(9 * x) * np.cos(7 * y), np.sin(8 * y), np.cos(6 * x + 3 * y)), 1)


def photograph(radial):
    """Return what a lens with distortion sees of the pattern."""
    u, v = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    seen = (np.stack((u, v), -1).reshape(-1, 2) - CENTER) / FOCAL
    rays = seen
    for _ in range(50):
        rays = seen / (1 + radial * (rays**2).sum(1, keepdims=True))
    return np.rint(checkers(rays)).astype(np.uint8).reshape(SIZE[1], SIZE[0], 3)


def result(room, folder, radial, mode="png"):
    """Return a result of two photographs of a plane, 2 units away, whose first one has a distorted lens."""
    (folder / "photos").mkdir()
    for index, k in enumerate((radial, 0.0)):
        Image.fromarray(photograph(k)).save(folder / "photos" / f"{index}.{mode}")
    factor = 4
    small = (SIZE[0] // factor, SIZE[1] // factor)
    reduced = [Image.fromarray(photograph(k)).resize(small, Image.Resampling.BOX) for k in (radial, 0.0)]
    images = np.stack([np.asarray(each, np.float32).transpose(2, 0, 1) / 255 for each in reduced])
    lens = np.array([[FOCAL / factor, 0, small[0] / 2], [0, FOCAL / factor, small[1] / 2], [0, 0, 1]], np.float32)
    depth = np.full((2, small[1], small[0]), 2, np.float32)
    prediction = replace(
        room, images=images, names=(f"0.{mode}", f"1.{mode}"),
        maps=(FrameMap(SIZE, (1 / factor, 1 / factor), (0.0, 0.0)),) * 2,
        cam_from_world=np.tile(np.eye(4, dtype=np.float32)[:3], (2, 1, 1)), intrinsics=np.tile(lens, (2, 1, 1)),
        pose_enc=np.zeros((2, 9), np.float32), depth=depth, depth_conf=np.ones_like(depth), world_points=None,
        world_points_conf=None, mask=None,
    )  # fmt: skip
    frames = [
        {"name": f"0.{mode}", "refined": True, "radial_distortion": radial, "lens_focal_px": [FOCAL, FOCAL]},
        {"name": f"1.{mode}", "refined": True, "radial_distortion": 0.0, "lens_focal_px": None},
    ]
    info = ResultInfo(images=(str(folder / "photos"),), details={"refinement": {"frames": frames}})
    return Result(folder, prediction, info)


@pytest.mark.parametrize("radial", [-0.1, 0.12])
@pytest.mark.parametrize("resolution", ["original", "processed"])
def test_points_project_onto_their_colors_in_undistorted_images(room, tmp_path, radial, resolution):
    pycolmap = pytest.importorskip("pycolmap")
    opened = result(room, tmp_path, radial)
    report = export(opened, tmp_path / "out", "colmap", FormatOptions(resolution, drop_percent=0, max_points=2000))
    assert report.undistorted == 1
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    rays = np.random.default_rng(0).uniform(-0.4, 0.4, (500, 2)) * (1, 0.8)
    tolerance = 3 if resolution == "original" else 12
    for image in model.images.values():
        pixels = np.array([image.project_point(2 * np.array([*ray, 1.0])) for ray in rays])
        written = np.asarray(Image.open(tmp_path / "out" / "images" / image.name), float)
        inside = ((pixels > 1) & (pixels < np.array(written.shape[1::-1]) - 1)).all(1)
        assert inside.mean() > 0.8
        columns, rows = pixels[inside].astype(int).T
        nearest = (np.column_stack((columns, rows)) + 0.5 - pixels[inside]) / image.camera.focal_length_x
        expected = checkers(rays[inside] + nearest)  # at the centers of the pixels
        assert np.abs(written[rows, columns] - expected).mean() < tolerance
    for point in list(model.points3D.values())[:100]:
        for element in point.track.elements:
            image = model.images[element.image_id]
            seen = image.points2D[element.point2D_idx].xy
            np.testing.assert_allclose(image.project_point(point.xyz), seen, atol=0.05)
        ray = point.xyz[:2] / point.xyz[2]
        assert np.abs(point.color - checkers(ray[None])[0]).max() < 25


@pytest.mark.parametrize("kind", ["ply", "splat", "glb"])
def test_points_without_images_are_where_the_lens_saw_them(room, tmp_path, kind):
    trimesh = pytest.importorskip("trimesh")
    opened = result(room, tmp_path, -0.1)

    def errors(folder, **options):
        report = export(opened, tmp_path / folder, kind, FormatOptions(drop_percent=0, **options))
        (file,) = (tmp_path / folder / name for name in report.files if name != "export.json")
        scene = trimesh.load(file)
        if kind == "glb":
            scene = next(each for each in scene.geometry.values() if isinstance(each, trimesh.PointCloud))
        points = np.asarray(scene.vertices)
        if kind == "splat":
            vertex = scene.metadata["_ply_raw"]["vertex"]["data"]
            colors = np.stack([vertex[f"f_dc_{index}"] for index in range(3)], -1).reshape(-1, 3) * SH_DEGREE_0 + 0.5
        else:
            colors = np.asarray(scene.colors)[:, :3] / 255
        expected = checkers(points[:, :2] / points[:, 2:]) / 255
        if kind == "glb":
            expected = linear_from_srgb(expected)
        outer = np.abs(points[:, :2] / points[:, 2:]).max(1) > 0.35
        return report, np.abs(colors - expected)[outer].mean()

    report, straight = errors("straight")
    assert report.undistorted == 1
    report, kept = errors("kept", keep_distortion=True)
    assert report.undistorted is None
    assert straight < 0.6 * kept


def test_the_files_of_a_result_have_the_points_of_its_exports(room, tmp_path):
    opened = result(room, tmp_path, -0.1)
    info = replace(opened.info, drop_percent=0.0)
    (tmp_path / "written").mkdir()
    write_result(opened.prediction, info, tmp_path / "written", files=("points.ply", "scene.glb"))
    for kind, name in (("ply", "points.ply"), ("glb", "scene.glb")):
        export(replace(opened, info=info), tmp_path / kind, kind, FormatOptions(max_points=ExportOptions.max_points))
        assert (tmp_path / kind / name).read_bytes() == (tmp_path / "written" / name).read_bytes()


def test_a_lens_takes_points_of_the_head_with_it_as_those_of_depth(room, tmp_path):
    opened = result(room, tmp_path, -0.1)
    depth = select_points(*shown(opened), max_points=10**6, drop_percent=0).points
    points = np.stack([frame_points(opened.prediction, "depth", frame) for frame in range(2)])
    headed = replace(opened.prediction, world_points=points, depth=None, depth_conf=None)
    info = replace(opened.info, points_from="head")
    head = select_points(*shown(replace(opened, prediction=headed, info=info)), max_points=10**6, drop_percent=0).points
    np.testing.assert_allclose(head, depth, atol=1e-5)


def test_viewer_and_page_show_the_points_of_exports(room, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    opened = result(room, tmp_path, -0.1)
    (tmp_path / "house").mkdir()
    save_result(opened.prediction, replace(opened.info, drop_percent=0.0), tmp_path / "house")
    export(tmp_path / "house", tmp_path / "out", "ply", FormatOptions(drop_percent=0, max_points=10**6))
    exported = np.asarray(trimesh.load(tmp_path / "out" / "points.ply").vertices)
    prediction, source = shown(open_result(tmp_path / "house"))
    np.testing.assert_allclose(display_cloud(prediction, source, 10**6).points, exported, rtol=1e-6)
    cli.main(["view", str(tmp_path / "house"), "--html", str(tmp_path / "house.html")])
    write_page(
        tmp_path / "exported.html", {"house": prediction}, ExportOptions(source, PAGE_POINTS, 0.0, title="house")
    )
    assert (tmp_path / "house.html").read_bytes() == (tmp_path / "exported.html").read_bytes()
    write_page(tmp_path / "pinholes.html", {"house": opened.prediction}, ExportOptions("depth", PAGE_POINTS, 0.0))
    assert (tmp_path / "house.html").read_bytes() != (tmp_path / "pinholes.html").read_bytes()


def test_results_of_which_one_has_a_distorted_lens_are_compared_pixel_by_pixel(room, tmp_path):
    opened = result(room, tmp_path, -0.1)
    pinholes = replace(opened, info=replace(opened.info, details={}))
    differences = compare_results(*as_shown([opened, pinholes])).differences
    center = tuple(side // 2 for side in differences.shape[1:])
    assert differences[0][center] < 1e-3
    assert differences[0, 0, 0] > 0.03  # the rays of the corner differ by the distortion
    np.testing.assert_allclose(differences[1], differences[1].mean(), atol=0.02)
    assert np.nanmax(compare_results(*as_shown([opened, opened])).differences) < 1e-5


def shown(opened):
    (found,) = as_shown([opened])
    return found.prediction, found.info.points_from


def test_distortion_can_be_kept_and_then_files_are_copied(room, tmp_path):
    opened = result(room, tmp_path, -0.1, mode="jpg")
    kept = FormatOptions(keep_distortion=True, drop_percent=0)
    assert export(opened, tmp_path / "kept", "nerfstudio", kept).undistorted is None
    export(opened, tmp_path / "straight", "nerfstudio", FormatOptions(drop_percent=0))
    photos, copies, straight = (
        [(tmp_path / folder / f"{index}.jpg").read_bytes() for index in range(2)]
        for folder in ("photos", "kept/images", "straight/images")
    )
    assert copies == photos
    assert (straight[0] == photos[0], straight[1] == photos[1]) == (False, True)


def test_an_undistorted_image_is_what_a_pinhole_sees():
    lens = Lens(np.full(2, FOCAL), CENTER, -0.1, SIZE)
    u, v = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    rays = (np.stack((u, v), -1).reshape(-1, 2) - CENTER) / lens.undistorted_focal
    found = np.asarray(undistorted_image(Image.fromarray(photograph(-0.1)), lens), float).reshape(-1, 3)
    difference = np.abs(found - checkers(rays)).reshape(SIZE[1], SIZE[0], 3)
    assert difference.mean() < 0.6
    assert difference[2:-2, 2:-2].max() < 4


def test_masks_are_the_users_own_at_the_size_of_the_photographs(room, tmp_path, caplog):
    opened = result(room, tmp_path, 0.0)
    (tmp_path / "masks").mkdir()
    mask = np.full((SIZE[1], SIZE[0]), 255, np.uint8)
    mask[101:150, 31:33] = 0  # finer than a processed pixel
    Image.fromarray(mask).save(tmp_path / "masks" / "0.png")
    small = np.ones(opened.prediction.depth.shape, bool)
    small[0, 25:37, 8] = False
    prediction = replace(opened.prediction, mask=small)
    info = replace(opened.info, details={"masks": {"folder": str(tmp_path / "masks")}})
    save_result(prediction, info, tmp_path / "result")
    export(tmp_path / "result", tmp_path / "own", "colmap")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "own" / "masks" / "0.png.png")), mask)
    assert (np.asarray(Image.open(tmp_path / "own" / "masks" / "1.png.png")) == 255).all()
    (tmp_path / "masks").rename(tmp_path / "moved")
    with caplog.at_level(logging.WARNING):
        export(tmp_path / "result", tmp_path / "enlarged", "colmap")
    assert "--masks" in caplog.text
    large = np.asarray(Image.open(tmp_path / "enlarged" / "masks" / "0.png.png"))
    np.testing.assert_array_equal(large[100:148, 32:36], 0)
    assert (large == 0).sum() == 48 * 4
    export(tmp_path / "result", tmp_path / "given", "colmap", masks=tmp_path / "moved")
    assert (tmp_path / "given" / "masks" / "0.png.png").read_bytes() == (
        tmp_path / "own" / "masks" / "0.png.png"
    ).read_bytes()
    with pytest.raises(QvggtError, match="--masks"):
        export(tmp_path / "result", tmp_path / "wrong", "colmap", masks=other_masks(tmp_path))


def other_masks(folder):
    (folder / "others").mkdir()
    Image.new("L", SIZE).save(folder / "others" / "elsewhere.png")
    return folder / "others"


def test_masks_are_undistorted_with_their_photographs(room, tmp_path):
    opened = result(room, tmp_path, -0.1)
    (tmp_path / "masks").mkdir()
    Image.fromarray((photograph(-0.1)[..., 0] > 127).astype(np.uint8) * 255).save(tmp_path / "masks" / "0.png")
    prediction = replace(opened.prediction, mask=np.ones(opened.prediction.depth.shape, bool))
    details = {**opened.info.details, "masks": {"folder": str(tmp_path / "masks")}}
    export(
        replace(opened, prediction=prediction, info=replace(opened.info, details=details)), tmp_path / "out", "colmap"
    )
    image = np.asarray(Image.open(tmp_path / "out" / "images" / "0.png"))[..., 0]
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "0.png.png"))
    assert ((mask == 255) == (image > 127)).mean() > 0.99


def test_a_second_refinement_that_changes_nothing_keeps_the_lens(room, tmp_path):
    pytest.importorskip("pycolmap")
    from qvggt.api.refine import refined_result
    from qvggt.options import RefineOptions

    opened = result(room, tmp_path, -0.1)
    blank = [Image.new("RGB", SIZE)] * 2
    _, info = refined_result(opened.prediction, opened.info, blank, RefineOptions())
    assert info.details["refinement"]["kept"] == "none"
    lenses = replace(opened, info=info).lenses()
    assert lenses[0].radial == -0.1
    assert lenses[1] is None


def test_damaged_lenses_are_said_so(room, tmp_path):
    opened = result(room, tmp_path, -0.1)
    opened.info.details["refinement"]["frames"][0]["lens_focal_px"] = "wide"
    save_result(opened.prediction, opened.info, tmp_path)
    with pytest.raises(QvggtError, match="refine again"):
        open_result(tmp_path).lenses()
