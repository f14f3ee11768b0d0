import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from qvggt import geometry
from qvggt.calibration.data import BATCH_PIXELS, batched, load_calibration, without_truth
from qvggt.data.rooms.reader import RoomsReader
from qvggt.data.splits import calibration_sets, check_disjoint
from qvggt.options import CalibrationOptions, ImageOptions
from qvggt.types import QvggtError, Scene
from qvggt.weights.pretrained import SAMPLE_SCENE

PIXELS, PATCH = 28, 14


def load(held_out=0.25, **options):
    return load_calibration(CalibrationOptions(**options), PIXELS, PATCH, held_out)


def images_of(data):
    return [scene for batch in (*data.batches, *data.held_out) for scene in batch.images]


@pytest.fixture(scope="module")
def rooms():
    return load(scenes=5, frames=3)


def test_rooms_come_with_truth_and_some_are_held_out(rooms):
    assert [batch.scenes for batch in rooms.batches] == [4]
    assert [batch.scenes for batch in rooms.held_out] == [1]
    assert rooms.has_truth
    for batch in (*rooms.batches, *rooms.held_out):
        assert batch.images.shape[1:] == (3, 3, PIXELS, PIXELS)
        assert batch.images.dtype == torch.float32
        assert 0 <= batch.images.min() <= batch.images.max() <= 1
        assert batch.truth is not None
        assert batch.truth.valid.all()
        assert torch.isfinite(batch.truth.points).all()


def test_the_truth_of_rooms_is_theirs(rooms):
    reader, name = RoomsReader("calib"), rooms.provenance["scenes"][0]
    record = next(record for record in reader.sequences() if record.name == name)
    scene = reader.load(record, range(8), ImageOptions(PIXELS, PATCH))
    batch = rooms.batches[0]
    places = [next(i for i in range(8) if np.array_equal(scene.images[i], frame.numpy())) for frame in batch.images[0]]
    cameras = torch.from_numpy(scene.cam_from_world[places])[None].float()
    intrinsics = torch.from_numpy(scene.intrinsics[places])[None].float()
    depth = torch.from_numpy(scene.depth[places])[None]
    expected = geometry.normalized_truth(cameras, intrinsics, depth, torch.ones_like(depth, dtype=torch.bool))
    assert torch.allclose(batch.truth.pose_enc[:1], expected.pose_enc, atol=1e-5)
    assert torch.allclose(batch.truth.points[:1], expected.points, atol=1e-4)


def test_the_seed_decides_and_few_are_part_of_many(rooms):
    again, other, fewer = load(scenes=5, frames=3), load(scenes=5, frames=3, seed=1), load(scenes=2, frames=3)
    assert again.provenance == rooms.provenance
    assert all(torch.equal(a, b) for a, b in zip(images_of(again), images_of(rooms), strict=True))
    assert set(other.provenance["scenes"]) != set(rooms.provenance["scenes"])
    assert set(fewer.provenance["scenes"]) < set(rooms.provenance["scenes"])


def test_rooms_are_on_record_and_never_evaluated_on(rooms):
    (seen,) = calibration_sets(rooms.provenance)
    assert (seen.dataset, seen.split, len(seen.scenes)) == ("rooms", "calib", 5)
    assert rooms.provenance["images"] == 15
    assert rooms.provenance["held_out"] == 1
    with pytest.raises(QvggtError, match=r"was calibrated on 5 of the scenes of rooms"):
        check_disjoint("m", rooms.provenance, "rooms", "calib", seen.scenes)
    test = [record.name for record in RoomsReader("test").sequences()]
    check_disjoint("m", rooms.provenance, "rooms", "test", test)


def test_a_split_that_is_asked_for_is_read_and_on_record():
    data = load(scenes=2, frames=2, split="val")
    (seen,) = calibration_sets(data.provenance)
    assert seen.split == "val"
    with pytest.raises(QvggtError, match="was calibrated on"):
        check_disjoint("m", data.provenance, "rooms", "val", [record.name for record in RoomsReader("val").sequences()])


def test_photographs_are_cut_into_scenes_in_order():
    data = load(source=str(SAMPLE_SCENE), scenes=16, frames=2)
    assert sum(batch.scenes for batch in data.batches) == 3
    assert sum(batch.scenes for batch in data.held_out) == 1
    assert not data.has_truth
    assert data.provenance["names"] == [f"{index:03d}.jpg" for index in range(8)]
    assert data.provenance["images"] == 8
    assert calibration_sets(data.provenance) == ()
    check_disjoint("m", data.provenance, "rooms", "test", ["test/00000"])


def test_photographs_are_spread_over_the_folder():
    data = load(source=str(SAMPLE_SCENE), scenes=2, frames=2)
    names = data.provenance["names"]
    assert len(names) == 4
    assert names == sorted(names)
    assert names[-1] >= "005.jpg"


def test_a_glob_is_photographs_too():
    data = load(source=str(SAMPLE_SCENE / "00[0-3].jpg"), frames=1)
    assert data.provenance["names"] == [f"{index:03d}.jpg" for index in range(4)]


@pytest.mark.parametrize("frames", [5, 8, 9])
def test_too_few_photographs_are_refused(frames):
    with pytest.raises(QvggtError, match="too few images for 2 scenes"):
        load(source=str(SAMPLE_SCENE), frames=frames)


def test_rooms_without_so_many_frames_are_refused():
    with pytest.raises(QvggtError, match="too few images for 2 scenes of 9"):
        load(frames=9)


@pytest.mark.parametrize("values", [{"scenes": 1}, {"frames": 0}, {"scenes": 0}])
def test_impossible_numbers_are_refused(values):
    with pytest.raises(QvggtError, match="at least 2 scenes of at least 1 frame"):
        CalibrationOptions(**values)


@pytest.mark.parametrize("source", ["no-such-folder", "rooms/"])
def test_what_is_not_there_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QvggtError):
        load(source=source)


def test_provenance_is_json_ready(rooms):
    for data in (rooms, load(source=str(SAMPLE_SCENE), frames=2)):
        assert json.loads(json.dumps(data.provenance)) == data.provenance


def test_forgetting_the_truth_keeps_the_images(rooms):
    data = without_truth(rooms)
    assert not data.has_truth
    assert all(torch.equal(a, b) for a, b in zip(images_of(data), images_of(rooms), strict=True))
    assert data.provenance == rooms.provenance


def scene(name="a", frames=2, size=(28, 28), **changes):
    values = {
        "images": np.random.default_rng(0).random((frames, 3, *size), np.float32),
        "cam_from_world": np.tile(np.eye(3, 4), (frames, 1, 1)),
        "intrinsics": np.tile(np.array([[28.0, 0, 14], [0, 28, 14], [0, 0, 1]]), (frames, 1, 1)),
        "depth": np.full((frames, *size), 2, np.float32),
    }
    return Scene(name, **(values | changes))


def test_scenes_of_one_size_are_together():
    shapes = [(2, (28, 28)), (2, (28, 28)), (2, (28, 42)), (3, (28, 28)), (2, (28, 28))]
    found = list(batched([scene(frames=frames, size=size) for frames, size in shapes]))
    assert [tuple(batch.images.shape[:2]) for batch in found] == [(2, 2), (1, 2), (1, 3), (1, 2)]


def test_the_first_scenes_of_a_batch(rooms):
    batch = rooms.batches[0].first(2)
    assert batch.scenes == 2
    assert torch.equal(batch.images, rooms.batches[0].images[:2])
    assert torch.equal(batch.truth.points, rooms.batches[0].truth.points[:2])
    assert without_truth(rooms).batches[0].first(1).truth is None


def test_a_batch_has_no_more_pixels_than_it_may():
    side = 14 * 37
    found = list(batched([scene(frames=1, size=(side, side)) for _ in range(7)]))
    assert sum(batch.scenes for batch in found) == 7
    assert all(batch.scenes * side * side <= BATCH_PIXELS for batch in found)
    assert len(found) < 7


@pytest.mark.parametrize("missing", ["cam_from_world", "intrinsics", "depth"])
def test_truth_is_whole_or_none(missing):
    (batch,) = batched([scene(), scene(**{missing: None})])
    assert batch.truth is None


def test_depth_of_another_size_is_none():
    (batch,) = batched([scene(depth=np.ones((2, 56, 56), np.float32))])
    assert batch.truth is None


def test_holes_in_depth_are_not_known():
    depth = np.full((2, 28, 28), 2, np.float32)
    depth[0, 0, :3] = (0, np.nan, -1)
    valid = np.ones((2, 28, 28), bool)
    valid[1, 5] = False
    (batch,) = batched([scene(depth=depth, valid=valid), scene()])
    assert batch.truth is not None
    assert (~batch.truth.valid).sum() == 3 + 28
    assert not batch.truth.valid[0, 0, 0, :3].any()
    assert all(torch.isfinite(value).all() for value in dataclasses.astuple(batch.truth))


@pytest.mark.parametrize(
    ("values", "word"), [((0, 0, 0, 0), "single color"), ((1, 1, 1, 1), "differ"), ((1, 2, 3, 4), "")]
)
def test_load_calibration__warns_of_images_that_say_nothing(tmp_path, caplog, values, word):
    for index, seed in enumerate(values):
        noise = np.random.default_rng(seed).integers(0, 255 if seed else 1, (28, 28, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{index}.png")
    load_calibration(CalibrationOptions(str(tmp_path), scenes=2, frames=2), 28, 14)
    assert word in caplog.text
    assert bool(caplog.text) == bool(word)


def test_further_scenes_leave_the_others_as_they_are(rooms):
    more = load_calibration(CalibrationOptions(scenes=5, frames=3), PIXELS, PATCH, further=4)
    assert all(torch.equal(a, b) for a, b in zip(images_of(more), images_of(rooms), strict=True))
    assert sum(batch.scenes for batch in more.further) == 4
    assert more.provenance["scenes"][:5] == rooms.provenance["scenes"]
    assert len(set(more.provenance["scenes"])) == 9
    assert (more.provenance["further"], more.provenance["held_out"], more.provenance["images"]) == (4, 1, 27)
    assert "further" not in rooms.provenance
    assert more.content_hash() != rooms.content_hash()


def test_of_many_photographs_the_calibrations_are_from_all_over_them(tmp_path):
    for index in range(14):
        Image.new("RGB", (PIXELS, PIXELS), (index * 18, 0, 0)).save(tmp_path / f"{index:02}.png")
    data = load_calibration(CalibrationOptions(str(tmp_path), scenes=3, frames=2), PIXELS, PATCH, further=9)
    reds = [round(float(scene[0, 0].mean()) * 255) // 18 for scene in images_of(data)]
    assert reds == [0, 6, 12]
    further = [scene for batch in data.further for scene in batch.images]
    assert [round(float(scene[0, 0].mean()) * 255) // 18 for scene in further] == [2, 4, 8, 10]
    assert data.provenance["further"] == 4
