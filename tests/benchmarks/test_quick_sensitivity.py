"""The benchmark of estimated sensitivities compares reports, chooses within a budget, and judges what follows."""

from dataclasses import replace

import pytest

import quick_sensitivity
import sensitivity_variants
from quantizing import small_model
from quick_sensitivity import (
    FINDERS,
    Family,
    chosen_schemes,
    correlation,
    judge,
    pooled_report,
    report_of,
    run,
    uniform,
)
from qvggt.calibration.size import storage_of
from qvggt.calibration.task import make_task
from qvggt.methods.qvggt import SPARE_BITS
from qvggt.quant.scheme import Scheme
from sensitivity_variants import WAYS, correlations

pytestmark = pytest.mark.render


@pytest.fixture(scope="module")
def task():
    return make_task(small_model(), Family(frames=2).scenes(1), "teacher")


@pytest.fixture(scope="module")
def report(task, tmp_path_factory):
    model, folder = small_model(), tmp_path_factory.mktemp("reports")
    found = report_of("gradient", model, task, "small", folder, widths=(3, 8))
    assert report_of("gradient", model, task, "small", folder, widths=(3, 8)) == found
    assert len(list(folder.iterdir())) == 1
    return found


def test_ranks_are_compared_at_one_width(report):
    assert set(FINDERS) == {"measured", "gradient", "auto"}
    assert correlation(report, report, 3, conv=True) == pytest.approx(1)
    turned = replace(report, rows=tuple(replace(row, total=-row.total) for row in report.rows))
    assert correlation(report, turned, 3, conv=False) == pytest.approx(-1)


def test_the_worst_of_several_reports_counts(report):
    twice = replace(report, rows=tuple(replace(row, total=2 * row.total) for row in report.rows))
    assert [row.total for row in pooled_report([report, twice]).rows] == [
        row.total for row in pooled_report([report]).rows
    ]


def test_choices_keep_the_budget_and_are_judged_against_the_float_model(task, report):
    model = small_model()
    storage, schemes = storage_of(model.config), chosen_schemes(model, report, 4)
    assert storage.average_bits(schemes) <= storage.average_bits(uniform(model, 4)) + SPARE_BITS
    exact = run(model, task, {})
    assert judge(exact, exact, task).loss == 0
    assert judge(exact, exact, task).fidelity3 == 100
    assert judge(run(model, task, uniform(model, 2)), exact, task).fidelity3 < 100


def test_the_tables_have_a_column_or_rows_of_each_model(report, monkeypatch, capsys):
    """The reports are given, so that nothing is measured."""
    arguments = ["x", "--models", "nano", "--bits", "4", "--calib-scenes", "1", "--scenes", "1"]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(quick_sensitivity, "FINDERS", {"measured": None, "auto": None})
    monkeypatch.setattr(quick_sensitivity, "WIDTHS", (3, 8))
    monkeypatch.setattr(quick_sensitivity, "report_of", lambda *_, **__: report)
    monkeypatch.setattr(quick_sensitivity.qvggt, "load", lambda *_, **__: small_model())
    monkeypatch.setattr(quick_sensitivity, "SIZE_HW", (56, 56))
    quick_sensitivity.main()
    printed = capsys.readouterr().out
    assert "| | nano, `auto` |\n|---|--:|\n| 3 bits | 1.000 |\n| 8 bits | 1.000 |\n\n" in printed
    rows = printed.rsplit("|---|---|--:|--:|--:|\n", 1)[1].splitlines()
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| nano, 4", way] for way in ("the same for all", "measured", "`auto`")
    ]


def test_variants_are_ranked_against_the_measurement(task, monkeypatch):
    monkeypatch.setattr(sensitivity_variants, "PROBES", 1)
    found = correlations(small_model(), task, Scheme(4), "second-order")
    assert len(found) == len(WAYS) + 1
    assert all(-1 <= value <= 1 for value in found)
