"""The picture of a comparison, whatever it found."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from qvggt import QvggtError
from qvggt.eval.comparison import ComparisonReport, ComparisonRow, Trial
from qvggt.eval.report import EvaluationSetup, Figures, ModelCard
from qvggt.eval.results import SceneResult
from qvggt.eval.stats import paired_difference, summarize, summarize_runs
from qvggt.plots.comparison import _side_by_side, write_comparison_picture

ON = EvaluationSetup("rooms", "test", "all frames", (8, 8), 0, 1.0, 112, {})
SCENES = 12

pytestmark = pytest.mark.render


def scenes(seed, loss, values=True):
    generator = np.random.default_rng(seed)
    results = []
    for index in range(SCENES):
        errors = generator.gamma(2, 6, (2, 6)) * (1 + loss)
        found = {"absrel": float(generator.gamma(3, 0.02) * (1 + loss))} if values else {}
        results.append(SceneResult(f"s{index}", "g", ("p",), 4, tuple(errors[0]), tuple(errors[1]), found))
    return results


def trial(results, size, name="m", seed=None):
    card = ModelCard(name, "sha256:0", name, average_bits=5.0, checkpoint_bytes=size)
    return Trial(Figures(card, summarize(results), tuple(results)), seed, 4.2, 1.0)


def row(method, bits, size, loss, base, values=True):
    results = scenes(hash((method, bits)) % 99, loss, values)
    return ComparisonRow(
        method, bits, (trial(results, size, method),), summarize_runs([results]), paired_difference([results], base)
    )


def report(*rows, values=True, name="nano"):
    base = scenes(5, 0.0, values)
    first = ComparisonRow("float", None, (trial(base, 11_000_000, name),), summarize(base))
    return ComparisonReport((first, *(row(*each, base, values) for each in rows)), ON)


USUAL = (("rtn", 4, 3_900_000, 0.1), ("gptq", 4, 3_900_400, 0.05), ("rtn", 3, 3_200_000, 0.3))


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_picture_is_legible_in_size_and_replaces_what_was_there(tmp_path):
    for _ in range(2):
        write_comparison_picture(tmp_path / "deep" / "c.png", report(*USUAL))
    drawn = pixels(tmp_path / "deep" / "c.png")
    assert drawn.shape[1] > 1400
    assert drawn.shape[0] > 650
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["c.png"]


def test_the_same_report_is_the_same_picture_and_another_one_is_not(tmp_path):
    first, other = report(*USUAL), report(*USUAL[:2])
    for name, each in (("a", first), ("b", first), ("c", other)):
        write_comparison_picture(tmp_path / f"{name}.png", each)
    one, same, far = (pixels(tmp_path / f"{name}.png") for name in "abc")
    assert (one == same).all()
    assert (one != far).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_any_number_of_methods_widths_and_answers(tmp_path, count, values):
    rows = [(f"m{k}", 2 + k % 7, 10_000 + 10 * k, 0.02 * k) for k in range(count)]
    write_comparison_picture(tmp_path / "c.png", report(*rows, values=values))
    assert pixels(tmp_path / "c.png").std() > 3


@pytest.mark.filterwarnings("error")
def test_odd_names_failed_methods_and_figures_that_are_no_numbers(tmp_path):
    drawn = report(*USUAL, name="/a/$\\frac{k}$ \u732b " + "x" * 300)
    broken = [replace(result, values={"absrel": float("inf")}) for result in scenes(1, 0)]
    rows = (
        *drawn.rows,
        ComparisonRow("$^", 4, (), errors=("it cannot",)),
        ComparisonRow("\u732b" * 40, 4, (trial(broken, 3_000_000),), summarize(broken)),
    )
    write_comparison_picture(tmp_path / "c.png", replace(drawn, rows=rows))
    assert pixels(tmp_path / "c.png").size


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(QvggtError, match="is a folder"):
        write_comparison_picture(tmp_path, report())


def test_neighbours_stand_apart_in_their_order_and_the_lonely_where_they_are():
    assert _side_by_side([1.0, 5.0], 1.0) == [1.0, 5.0]
    assert _side_by_side([2.0, 2.0, 2.0], 1.0) == [1.0, 2.0, 3.0]
    moved = _side_by_side([0.0, 0.9, 1.0, 1.1, 7.0], 1.0)
    assert np.diff(moved).min() >= 1 - 1e-12
    assert moved[-1] == 7
    assert _side_by_side([], 1.0) == []
