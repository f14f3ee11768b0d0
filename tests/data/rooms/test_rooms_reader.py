import numpy as np
import pytest

from qvggt.data.rooms.family import SPLITS, load_rooms
from qvggt.data.rooms.reader import RoomsReader
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

pytestmark = pytest.mark.render

OPTIONS = ImageOptions(28, 14)


def test_rooms_are_those_of_the_split():
    reader = RoomsReader("val")
    records = reader.sequences()
    assert len(records) == SPLITS["val"].scenes
    assert records[0].frames == tuple("01234567")
    for record, room in zip(records[:2], load_rooms("val", (28, 28), scenes=2), strict=True):
        scene = reader.load(record, range(8), OPTIONS)
        assert (scene.name, scene.group) == (record.name, record.group) == (room.name, room.group)
        for name in ("images", "depth", "cam_from_world", "intrinsics", "valid"):
            np.testing.assert_array_equal(getattr(scene, name), getattr(room, name))


def test_frames_can_be_chosen():
    reader = RoomsReader("test")
    record = reader.sequences()[3]
    everything, some = reader.load(record, range(8), OPTIONS), reader.load(record, (5, 0), OPTIONS)
    for name in ("images", "depth", "cam_from_world", "intrinsics", "valid"):
        np.testing.assert_array_equal(getattr(some, name), getattr(everything, name)[[5, 0]])
    with pytest.raises(QvggtError, match="does not exist"):
        reader.load(record, (8,), OPTIONS)


def test_landmarks_can_be_set_and_are_known():
    assert RoomsReader("test").landmarks == 1.0
    assert RoomsReader("test-landmarks0").landmarks == 0.0
    reader = RoomsReader("test", landmarks=0.0)
    record = reader.sequences()[0]
    assert not np.array_equal(
        reader.load(record, (0,), OPTIONS).images, RoomsReader("test").load(record, (0,), OPTIONS).images
    )


def test_what_makes_no_sense_is_refused():
    with pytest.raises(QvggtError, match="has no split 'nonsense': choose one of calib"):
        RoomsReader("nonsense")
    with pytest.raises(QvggtError, match="landmarks must lie"):
        RoomsReader("test", landmarks=2.0)
    with pytest.raises(QvggtError, match="never ends"):
        RoomsReader("train").sequences()
