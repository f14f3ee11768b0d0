"""The picture of a sensitivity report, for few and for many blocks, and reports from files."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from qvggt import QvggtError
from qvggt.calibration.objective import TaskLoss
from qvggt.calibration.sensitivity import SensitivityReport, SensitivityRow, items_of, read_sensitivity
from qvggt.calibration.units import model_units
from qvggt.model import VGGT, VGGTConfig
from qvggt.options import sensitivity_schemes
from qvggt.plots.sensitivity import write_sensitivity_picture

pytestmark = pytest.mark.render


def made_up(config, granularity, bits=(3, 4), scale=1.0):
    with torch.device("meta"):
        units = model_units(VGGT(config))
    rng, rows = np.random.default_rng(0), []
    for item in (item for unit in units for item in items_of(unit, granularity)):
        for scheme in sensitivity_schemes(bits):
            values = scale * rng.exponential(1, 4) / 4**scheme.bits
            loss = TaskLoss(*values.tolist())
            rows.append(SensitivityRow(item, scheme, loss, loss, float(values.sum()), 1))
    about = {"model": "a/$model$", "scenes": 3, "images": 6}
    return SensitivityReport(granularity, TaskLoss(0, 0, 0, 0), tuple(rows), about)


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("granularity", ["unit", "part", "layer"])
@pytest.mark.parametrize("config", [VGGTConfig.micro(), VGGTConfig.vggt_1b()], ids=["micro", "1b"])
def test_any_depth_and_granularity(tmp_path, config, granularity):
    write_sensitivity_picture(tmp_path / "x.png", made_up(config, granularity))
    drawn = pixels(tmp_path / "x.png")
    assert 1200 < drawn.shape[1] < 2200
    assert drawn.shape[0] > 700
    assert drawn.std() > 10


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, 1e-30])
def test_nothing_lost_and_everything_lost(tmp_path, scale):
    write_sensitivity_picture(tmp_path / "x.png", made_up(VGGTConfig.micro(), "part", (4,), scale))


def test_the_same_report_is_the_same_picture(tmp_path):
    for name in "ab":
        write_sensitivity_picture(tmp_path / f"{name}.png", made_up(VGGTConfig.micro(), "part"))
    assert (pixels(tmp_path / "a.png") == pixels(tmp_path / "b.png")).all()


def test_reports_from_files(tmp_path):
    report = made_up(VGGTConfig.micro(), "part")
    (tmp_path / "x.json").write_text(json.dumps(report.to_json()))
    assert read_sensitivity(tmp_path / "x.json") == report
    (tmp_path / "y.json").write_text("{")
    for name in ("y.json", "nowhere.json"):
        with pytest.raises(QvggtError, match="sensitivity report"):
            read_sensitivity(tmp_path / name)
