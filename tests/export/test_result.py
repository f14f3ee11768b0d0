"""A reconstruction on disk, with how it came to be."""

import json

import numpy as np
import pytest

from qvggt.export.result import ResultInfo, open_result, save_result
from qvggt.types import FrameMap, Prediction, QvggtError


@pytest.fixture
def prediction():
    mask = np.ones((1, 14, 14), bool)
    mask[0, 3] = False
    return Prediction(
        np.zeros((1, 3, 14, 14), np.float32), ("a.png",), (FrameMap((28, 28), (0.5, 0.5), (0, 0)),), mask=mask
    )


def test_save_result_and_open_result_are_inverse(tmp_path, prediction):
    info = ResultInfo("nano", ("/photos",), "pad", "head", drop_percent=10, unit="meter", details={"scale": {"m": 2.5}})
    save_result(prediction, info, tmp_path)
    for path in (tmp_path, tmp_path / "prediction.npz"):
        opened = open_result(path)
        assert opened.info == info
        assert (opened.prediction.mask == prediction.mask).all()
        assert opened.sources() == [opened.folder.__class__("/photos")]
        assert opened.sources(["other"])[0].name == "other"


def test_open_result_takes_a_prediction_without_info(tmp_path, prediction):
    save_result(prediction, ResultInfo(), tmp_path)
    (tmp_path / "result.json").unlink()
    result = open_result(tmp_path)
    assert result.info == ResultInfo()
    with pytest.raises(QvggtError, match="--images"):
        result.sources()


def test_open_result_refuses_what_is_none(tmp_path, prediction):
    with pytest.raises(QvggtError, match=r"prediction\.npz"):
        open_result(tmp_path)
    save_result(prediction, ResultInfo(), tmp_path)
    good = json.loads((tmp_path / "result.json").read_text())
    for change in ({"mode": "squash"}, {"images": 3}, {"version": 9}, {"details": []}, {"extra": 1}):
        (tmp_path / "result.json").write_text(json.dumps(good | change))
        with pytest.raises(QvggtError, match=r"result\.json is damaged"):
            open_result(tmp_path)
