import gzip
import json

import numpy as np
import pytest
from box_views import assert_true, view
from PIL import Image

from qvggt.data.co3d import Co3d
from qvggt.data.frames import pinhole
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

OPTIONS = ImageOptions(56, 14)
INTRINSICS = pinhole((60.0, 64.0), (27.0, 23.5))
ON_DISK = (3, 10, 41)


def pytorch3d_viewpoint(seen, intrinsics, size, ndc_format):
    """The camera as PyTorch3D has it: row vectors, x left, y up, normalized coordinates with the same axes."""
    opencv_to_pytorch3d = (-1.0, -1.0, 1.0)
    rotation = [[0.0] * 3 for _ in range(3)]
    for world_axis in range(3):  # row k of R is where the k-th world axis points in the camera
        for camera_axis in range(3):
            flip = opencv_to_pytorch3d[camera_axis]
            rotation[world_axis][camera_axis] = flip * float(seen.rotation[camera_axis, world_axis])
    width, height = size
    half = (min(width, height) / 2,) * 2 if ndc_format == "ndc_isotropic" else (width / 2, height / 2)
    return {
        "R": rotation,
        "T": [flip * float(t) for flip, t in zip(opencv_to_pytorch3d, seen.translation, strict=True)],
        "focal_length": [intrinsics[0, 0] / half[0], intrinsics[1, 1] / half[1]],
        "principal_point": [(width / 2 - intrinsics[0, 2]) / half[0], (height / 2 - intrinsics[1, 2]) / half[1]],
        "intrinsics_format": ndc_format,
    }


def write_json_gz(path, content):
    path.write_bytes(gzip.compress(json.dumps(content).encode()))


def write_sequence(root, category, sequence, size=(56, 42), ndc_format="ndc_isotropic", frames=50):
    """Write three frames of a sequence and return the annotations of all."""
    folder = root / category / sequence
    for kind in ("images", "depths", "depth_masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    annotations = []
    for number in range(1, frames + 1):
        seen = view(number % 5, INTRINSICS, size)
        image = f"{category}/{sequence}/images/frame{number:06d}.jpg"
        depth = f"{category}/{sequence}/depths/frame{number:06d}.jpg.geometric.png"
        mask = f"{category}/{sequence}/depth_masks/frame{number:06d}.png"
        scale = 0.25
        if number in ON_DISK:
            Image.fromarray(seen.photo).save(root / image, quality=98, subsampling=0)
            bits = np.frombuffer((seen.depth / scale).astype("<f2").tobytes(), dtype="<u2").reshape(seen.depth.shape)
            Image.fromarray(bits).save(root / depth)
            known = np.full(seen.depth.shape, 255, np.uint8)
            known[:, :8] = 0
            Image.fromarray(known).save(root / mask)
        annotations.append(
            {
                "sequence_name": sequence,
                "frame_number": number,
                "frame_timestamp": number / 10,
                "image": {"path": image, "size": [size[1], size[0]]},
                "depth": {"path": depth, "scale_adjustment": scale, "mask_path": mask},
                "mask": {"path": f"{category}/{sequence}/masks/frame{number:06d}.png", "mass": 100.0},
                "viewpoint": pytorch3d_viewpoint(seen, INTRINSICS, size, ndc_format),
                "meta": None,
            }
        )
    return annotations


def write_category(root, category, sequences, quality=None):
    """``sequences``: name -> annotations; all are in the set list's test part."""
    quality = quality or {}
    folder = root / category
    (folder / "set_lists").mkdir(parents=True, exist_ok=True)
    frames = [frame for annotations in sequences.values() for frame in annotations]
    listed = [[f["sequence_name"], f["frame_number"], f["image"]["path"]] for f in frames]
    (folder / "set_lists" / "set_lists_fewview_dev.json").write_text(
        json.dumps({"train": listed[:0], "val": [], "test": listed})
    )
    write_json_gz(folder / "frame_annotations.jgz", frames)
    write_json_gz(
        folder / "sequence_annotations.jgz",
        [
            {
                "sequence_name": name,
                "category": category,
                "video": {"path": None, "length": 20.0},
                "point_cloud": {"path": f"{category}/{name}/pointcloud.ply", "quality_score": 0.7, "n_points": 9},
                "viewpoint_quality_score": quality.get(name, 0.9),
            }
            for name in sequences
        ],
    )


@pytest.mark.parametrize("ndc_format", ["ndc_isotropic", "ndc_norm_image_bounds"])
@pytest.mark.parametrize("size", [(56, 42), (42, 42)])
def test_known_cameras_and_depth_come_back(tmp_path, ndc_format, size):
    write_category(tmp_path, "apple", {"110_1_2": write_sequence(tmp_path, "apple", "110_1_2", size, ndc_format)})
    reader = Co3d(tmp_path)
    (record,) = reader.sequences()
    assert (record.name, record.group, len(record.frames)) == ("apple/110_1_2", "apple", 50)
    scene = reader.load(record, [number - 1 for number in ON_DISK], ImageOptions(size[0], 14))
    truth = [view(number % 5, INTRINSICS, size) for number in ON_DISK]
    assert np.allclose(scene.cam_from_world, [seen.cam_from_world for seen in truth], atol=1e-12)
    assert np.allclose(scene.intrinsics, INTRINSICS - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))
    assert_true(scene, 2e-3, shade=0.02)
    assert not scene.valid[:, :, :8].any()
    assert scene.valid[:, :, 8:].all()


def test_sequences_that_cannot_be_trusted_are_left_out(tmp_path):
    sequences = {name: write_sequence(tmp_path, "ball", name) for name in ("good", "blurred", "lost", "nan", "unrated")}
    sequences["short"] = write_sequence(tmp_path, "ball", "short", frames=49)
    sequences["lost"][7]["viewpoint"]["T"] = [6e4, 5e4, 0.0]
    sequences["nan"][7]["viewpoint"]["T"] = [float("nan"), 0.0, 0.0]
    write_category(tmp_path, "ball", sequences, {"blurred": 0.5, "unrated": None})
    assert [record.name for record in Co3d(tmp_path).sequences()] == ["ball/good"]


def test_splits_and_categories(tmp_path):
    for category in ("apple", "ball"):
        write_category(tmp_path, category, {"1_2_3": write_sequence(tmp_path, category, "1_2_3")})
    assert [record.group for record in Co3d(tmp_path).sequences()] == ["apple", "ball"]
    assert [record.group for record in Co3d(tmp_path, "test-seen").sequences()] == ["apple"]
    assert [record.group for record in Co3d(tmp_path, categories=["ball"]).sequences()] == ["ball"]
    with pytest.raises(QvggtError, match="no sequence of CO3D split 'train'"):
        Co3d(tmp_path, "train").sequences()
    with pytest.raises(QvggtError, match="no split 'all'"):
        Co3d(tmp_path, "all")


@pytest.mark.parametrize(
    "name", ["set_lists/set_lists_fewview_dev.json", "frame_annotations.jgz", "sequence_annotations.jgz"]
)
def test_missing_and_damaged_files_are_named(tmp_path, name):
    write_category(tmp_path, "apple", {"1_2_3": write_sequence(tmp_path, "apple", "1_2_3")})
    path = tmp_path / "apple" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(QvggtError, match=rf"{path.name} is damaged"):
        Co3d(tmp_path).sequences()
    path.unlink()
    with pytest.raises(QvggtError, match=rf"is missing: .*{path.name}"):
        Co3d(tmp_path).sequences()


def test_annotations_of_another_form_are_an_error(tmp_path):
    annotations = write_sequence(tmp_path, "apple", "1_2_3")
    del annotations[4]["viewpoint"]["R"]
    write_category(tmp_path, "apple", {"1_2_3": annotations})
    with pytest.raises(QvggtError, match="'R' is missing"):
        Co3d(tmp_path).sequences()


def test_frames_that_only_the_set_list_knows_are_an_error(tmp_path):
    annotations = write_sequence(tmp_path, "apple", "1_2_3")
    write_category(tmp_path, "apple", {"1_2_3": annotations})
    write_json_gz(tmp_path / "apple" / "frame_annotations.jgz", annotations[:-1])
    with pytest.raises(QvggtError, match="lacks frames"):
        Co3d(tmp_path).sequences()


def test_unknown_intrinsics_format_is_an_error(tmp_path):
    annotations = write_sequence(tmp_path, "apple", "1_2_3")
    annotations[ON_DISK[0] - 1]["viewpoint"]["intrinsics_format"] = "pixels"
    write_category(tmp_path, "apple", {"1_2_3": annotations})
    reader = Co3d(tmp_path)
    with pytest.raises(QvggtError, match="'pixels'"):
        reader.load(reader.sequences()[0], [ON_DISK[0] - 1], OPTIONS)


def test_missing_frame_and_depth_are_named(tmp_path):
    write_category(tmp_path, "apple", {"1_2_3": write_sequence(tmp_path, "apple", "1_2_3")})
    reader = Co3d(tmp_path)
    with pytest.raises(QvggtError, match=r"images/frame000001\.jpg was looked for"):
        reader.load(reader.sequences()[0], [0], OPTIONS)
    (tmp_path / "apple/1_2_3/depths/frame000003.jpg.geometric.png").unlink()
    with pytest.raises(QvggtError, match=r"depths/frame000003\.jpg\.geometric\.png was looked for"):
        reader.load(reader.sequences()[0], [2], OPTIONS)


def test_wrong_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(QvggtError, match=r"<category>/frame_annotations\.jgz was looked for"):
        Co3d(tmp_path)
    with pytest.raises(QvggtError, match="does not exist"):
        Co3d(tmp_path / "nowhere")
