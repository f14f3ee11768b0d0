"""The picture of a comparison, drawn of whatever was compared."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import qvggt
from qvggt import QvggtError
from qvggt.plots.fidelity import write_fidelity_picture
from qvggt.weights.pretrained import sample_images

pytestmark = pytest.mark.render


@pytest.fixture(scope="module")
def report():
    model = qvggt.load("seeded:micro")
    moved = qvggt.load("seeded:micro")
    moved.aggregator.camera_token.mul_(1.2)
    return qvggt.fidelity(model, moved, sample_images())


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_picture_is_legible_in_size_and_replaces_what_was_there(report, tmp_path):
    path = tmp_path / "deep" / "far.png"
    for _ in range(2):
        write_fidelity_picture(path, report)
    drawn = pixels(path)
    assert drawn.shape[1] > 1400
    assert drawn.shape[0] > 900
    assert [entry.name for entry in path.parent.iterdir()] == ["far.png"]


def test_the_same_report_is_the_same_picture_and_another_one_is_not(report, tmp_path):
    far = replace(report, differences=replace(report.differences, depth_rel=report.differences.depth_rel[::-1]))
    for name, each in (("a", report), ("b", report), ("c", far)):
        write_fidelity_picture(tmp_path / f"{name}.png", each)
    one, same, other = (pixels(tmp_path / f"{name}.png") for name in "abc")
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 2, 70])
def test_any_number_of_images(tmp_path, count):
    images = [np.full((30 + 40 * (k % 2), 50, 3), k, np.uint8) for k in range(count)]
    write_fidelity_picture(tmp_path / "x.png", qvggt.fidelity("seeded:micro", "seeded:micro", images, mode="pad"))
    assert pixels(tmp_path / "x.png").std() > 10


@pytest.mark.filterwarnings("error")
def test_odd_names_and_nothing_to_compare(report, tmp_path):
    count = len(report.names)
    odd = replace(report.prediction, names=tuple(f"$\\frac{k}$ \u732b [b] " + "x" * 300 for k in range(count)))
    nothing = replace(
        report.differences,
        translation_deg=np.full(count, np.nan),
        point_rel=np.full(count, np.nan),
        point_rel_pooled=np.nan,
    )
    write_fidelity_picture(
        tmp_path / "x.png",
        replace(report, model="/a/\u732b$^", other="/b/\u732b$^", prediction=odd, differences=nothing),
    )
    assert pixels(tmp_path / "x.png").size


def test_a_folder_is_no_file(report, tmp_path):
    with pytest.raises(QvggtError, match="is a folder"):
        write_fidelity_picture(tmp_path, report)
