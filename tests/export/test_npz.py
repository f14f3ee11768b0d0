import dataclasses

import numpy as np
import pytest

from qvggt.export.npz import load_prediction, save_prediction
from qvggt.types import FrameMap, Prediction, QvggtError


@pytest.fixture
def prediction():
    random = np.random.default_rng(0)
    return Prediction(
        images=random.random((2, 3, 14, 28), dtype=np.float32),
        names=("ein Bild.jpg", "vidéo 家\n.mp4#12"),
        maps=(FrameMap((640, 480), (0.5, 0.25), (0.0, -3.5)), FrameMap((1, 9999), (1 / 3, 2.0), (1.5, 0.0))),
        depth=random.random((2, 14, 28), dtype=np.float32),
        depth_conf=np.ones((2, 14, 28), np.float32),
    )


def test_saving_and_loading_gives_the_same_prediction(prediction, tmp_path):
    save_prediction(prediction, tmp_path / "x.npz")
    loaded = load_prediction(tmp_path / "x.npz")
    assert (loaded.names, loaded.maps) == (prediction.names, prediction.maps)
    for field in dataclasses.fields(Prediction):
        before, after = getattr(prediction, field.name), getattr(loaded, field.name)
        if isinstance(before, np.ndarray):
            assert after.dtype == before.dtype
            np.testing.assert_array_equal(after, before)
        else:
            assert after == before


def test_the_file_has_the_fields_names_and_no_pickles(prediction, tmp_path):
    save_prediction(prediction, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert sorted(arrays.files) == [
            "depth", "depth_conf", "images", "map_offset", "map_original_size", "map_scale", "names",
        ]  # fmt: skip
        assert arrays["names"].tolist() == list(prediction.names)


def test_the_name_is_kept_as_it_is_and_not_taken_twice(prediction, tmp_path):
    save_prediction(prediction, tmp_path / "result")
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
    with pytest.raises(QvggtError, match="exists already"):
        save_prediction(prediction, tmp_path / "result")
    save_prediction(prediction, tmp_path / "result", overwrite=True)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 broken"])
def test_what_is_no_prediction_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(QvggtError, match=r"prediction .* is damaged"):
        load_prediction(tmp_path / "x")


def test_other_arrays_and_truncated_files_are_refused(prediction, tmp_path):
    np.savez(tmp_path / "a.npz", depth=np.zeros(3))
    np.save(tmp_path / "b.npz.npy", np.zeros(3))
    save_prediction(prediction, tmp_path / "c.npz")
    (tmp_path / "c.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:-100])
    for name in ("a.npz", "b.npz.npy", "c.npz"):
        with pytest.raises(QvggtError, match=r"prediction .* is damaged"):
            load_prediction(tmp_path / name)


def test_pickles_are_not_opened(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.array([print], dtype=object))
    with pytest.raises(QvggtError, match=r"prediction .* is damaged"):
        load_prediction(tmp_path / "x.npz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(QvggtError, match=r"prediction is missing: .*x\.npz was looked for"):
        load_prediction(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images", lambda x: x[:, :2]),
        ("images", lambda x: (255 * x).astype(np.uint8)),
        ("depth", lambda x: x[:-1]),
        ("depth", lambda x: x * np.nan),
        ("cam_from_world", lambda x: np.eye(3)[None]),
        ("names", lambda x: x[:-1]),
        ("names", lambda x: np.arange(len(x))),
        ("map_scale", lambda x: x * 0),
        ("map_offset", lambda x: x[:-1]),
        ("map_original_size", lambda x: x[:, :1]),
    ],
)
def test_load_prediction_refuses_wrong_shapes_and_values(prediction, tmp_path, name, change):
    save_prediction(prediction, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "x.npz", **(arrays | {name: change(arrays.get(name))}))
    with pytest.raises(QvggtError, match=r"prediction .* is damaged"):
        load_prediction(tmp_path / "x.npz")
