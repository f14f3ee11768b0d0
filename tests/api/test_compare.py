"""Methods side by side, on a model that says nothing and says it quickly."""

import json
from dataclasses import replace

import pytest

import qvggt
from qvggt import CalibrationOptions, CompareOptions, QuantizeOptions, QvggtError, RunOptions, Scheme, Selection
from qvggt.api.checkpoint_cache import CheckpointStore
from qvggt.calibration.size import storage_of
from qvggt.checkpoint.folder import open_checkpoint
from qvggt.eval.comparison import ComparisonRow, optimal_rows
from qvggt.eval.stats import Summary

MODEL = "seeded:micro"
BASE = QuantizeOptions(Scheme(4, 32), calibration=CalibrationOptions(scenes=2, frames=1))
FEW = Selection(frames=2, scenes=2)


def compare(store, *methods, on_progress=None, run=None, **options):
    options = CompareOptions(methods, base=options.pop("base", BASE), half=options.pop("half", ()), **options)
    return qvggt.compare(MODEL, options, selection=FEW, store=store, run=run, on_progress=on_progress)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a store, and the comparison that filled it."""
    store = tmp_path_factory.mktemp("store")
    return store, compare(store, "rtn", "smoothquant", bits=(4, 3), seeds=(0, 1))


def figures(report):
    """Return a report's JSON without times."""
    values = report.to_json()
    for row in values["rows"]:
        for part in (row, *row["seeds"]):
            del part["minutes"]
    return values


def test_rows_are_the_float_model_and_every_method_at_every_width(made):
    _, report = made
    assert [(row.method, row.bits) for row in report.rows] == [
        ("float", None), ("rtn", 4), ("smoothquant", 4), ("rtn", 3), ("smoothquant", 3),
    ]  # fmt: skip
    assert [len(row.trials) for row in report.rows] == [1, 1, 2, 1, 2]  # rounding to nearest knows no seed
    assert [trial.seed for trial in report.rows[2].trials] == [0, 1]
    assert report.rows[0].difference is None
    assert report.reused == 0
    assert not any(row.errors for row in report.rows)


def test_figures_are_those_of_evaluate_on_the_same_frames(made):
    _, report = made
    alone = qvggt.evaluate(MODEL, selection=FEW).model.summary
    assert report.float_row.summary == alone
    assert report.rows[1].summary == report.rows[1].trials[0].figures.summary
    for row in report.rows[1:]:
        assert row.summary is not None
        assert row.difference is not None
        assert row.summary.metrics["absrel"] - alone.metrics["absrel"] == pytest.approx(
            row.difference.metrics["absrel"]
        )


def test_every_model_is_compared_with_the_float_models_cameras_too(made):
    rows = made[1].rows
    assert rows[0].fidelity is None
    for row in rows[1:]:
        assert {"fidelity_auc30", "fidelity_auc3", "fidelity_rotation_deg"} <= row.fidelity.metrics.keys()
    kept = CheckpointStore(made[0] / "compare", MODEL, rows[0].trials[0].figures.card.hash).get("rtn", BASE)
    against = qvggt.evaluate(kept.folder, selection=FEW, fidelity_to=MODEL).fidelity.summary
    shared = rows[1].fidelity.metrics.keys()
    assert {name: against.metrics[name] for name in shared} == rows[1].fidelity.metrics
    assert json.loads(json.dumps(made[1].to_json()))["rows"][1]["fidelity"]["metrics"].keys() == shared


def test_the_float_model_is_measured_in_float32_and_in_half_precision(made, tmp_path):
    report = compare(tmp_path, "rtn", half=("float16",), run=RunOptions(compute="bfloat16"))
    base, *halves, rtn = report.rows
    assert [(row.method, row.bits) for row in halves] == [("float16", None), ("bfloat16", None)]
    assert base.summary == made[1].float_row.summary  # whose run was in float32
    for row in halves:
        assert row.checkpoint_bytes == base.checkpoint_bytes
        assert row.summary.metrics["absrel"] != base.summary.metrics["absrel"]
        assert row.difference.metrics["absrel"] == pytest.approx(
            row.summary.metrics["absrel"] - base.summary.metrics["absrel"]
        )
        assert row.fidelity.metrics["fidelity_rotation_deg"] > 0
        assert not row.optimal
    assert rtn.optimal
    assert report.quantized == (rtn,)
    assert (report.on.machine["compute"], report.on.machine["float_compute"]) == ("bfloat16", "float32")


def test_bits_and_bytes_are_the_checkpoints_own(made):
    store, report = made
    row = report.rows[1]
    kept = CheckpointStore(store / "compare", MODEL, report.float_row.trials[0].figures.card.hash).get("rtn", BASE)
    assert kept is not None
    assert row.checkpoint_bytes == sum(path.stat().st_size for path in kept.folder.glob("[!.R]*"))
    checkpoint = open_checkpoint(kept.folder)
    assert row.linear_bits == storage_of(checkpoint.config).average_bits(checkpoint.recipe.layers)
    assert 4.5 <= row.linear_bits < 4.6  # four, and a scale of sixteen for each group of 32
    assert 3.5 <= report.rows[3].linear_bits < 3.6


def test_json_says_what_a_fair_comparison_needs(made):
    values = json.loads(json.dumps(made[1].to_json()))
    assert (values["model"], values["dataset"], values["split"], values["scenes"]) == (MODEL, "rooms", "test", 2)
    assert values["pairs"] == 2
    assert values["protocol"] == "pose-standard, depth-scale, points-consistent"
    assert values["quantization"]["calibration"]["seeds"] == [0, 1]
    assert values["quantization"]["scheme"]["group_size"] == 32
    assert {"auc30", "absrel"} <= values["chance"].keys()
    row = values["rows"][2]
    needed = {"method", "bits", "average_bits", "average_bits_linear", "checkpoint_bytes", "minutes", "metrics"}
    assert needed | {"intervals", "difference_to_float", "seed_ranges", "optimal"} <= row.keys()
    least, most = row["seed_ranges"]["absrel"]
    assert least <= row["metrics"]["absrel"] <= most
    assert [each["calibration"]["seed"] for each in row["seeds"]] == [0, 1]
    assert any(row["optimal"] for row in values["rows"][1:])
    assert values["rows"][0]["difference_to_float"] is None


def test_what_was_made_is_not_made_again(made, monkeypatch):
    store, report = made

    def never(*_, **__):
        raise AssertionError("quantized again")

    monkeypatch.setattr("qvggt.api.checkpoint_cache.quantize_to", never)
    again = compare(store, "rtn", "smoothquant", bits=(4, 3), seeds=(0, 1))
    assert again.to_json() == report.to_json()
    assert again.reused == 6
    with pytest.raises(AssertionError, match="quantized again"):
        compare(store, "smoothquant", base=replace(BASE, supervision="truth"))


def test_interrupted_at_any_moment_it_goes_on_to_the_same_figures(made, tmp_path):
    def interrupt(stage, share):
        if share > patience:
            raise KeyboardInterrupt

    for patience in (0.02, 0.3, 0.6):  # noqa: B007 (interrupt reads it)
        with pytest.raises(KeyboardInterrupt):
            compare(tmp_path, "rtn", "smoothquant", seeds=(0, 1), on_progress=interrupt)
    report = compare(tmp_path, "rtn", "smoothquant", seeds=(0, 1))
    assert 0 < report.reused < 3
    for found, wanted in zip(figures(report)["rows"], figures(made[1])["rows"], strict=False):
        assert found | {"optimal": None} == wanted | {"optimal": None}
    assert not list(tmp_path.glob("compare/*/*.unfinished"))


def test_progress_never_falls_back_and_reaches_the_end(tmp_path):
    seen = []
    compare(tmp_path, "rtn", "smoothquant", on_progress=lambda stage, share: seen.append((stage, share)))
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert any(stage.startswith("smoothquant at 4 bits: quantizing") for stage, _ in seen)
    assert any(stage == "rtn at 4 bits, 2 of 2 scenes" for stage, _ in seen)


def test_a_method_that_cannot_do_it_leaves_the_others_their_rows(tmp_path):
    report = compare(tmp_path, "qvggt", "rtn", base=replace(BASE, layers=("frame",), without=("nonsense",)))
    failed, other = report.rows[1:]
    assert failed.summary is None
    assert failed.errors[0].startswith("qvggt at 4 bits: there is no stage 'nonsense'")
    assert failed.to_json()["metrics"] == {}
    assert other.summary is not None
    assert other.optimal


def test_a_checkpoint_that_cannot_be_measured_leaves_the_others_their_rows(tmp_path, monkeypatch):
    from qvggt.api import compare as module

    bits = module._linear_bits

    def refused(folder):
        if "smoothquant" in str(folder):
            raise QvggtError("its calibration scenes are those of the evaluation")
        return bits(folder)

    monkeypatch.setattr(module, "_linear_bits", refused)
    failed, other = compare(tmp_path, "smoothquant", "rtn").rows[1:]
    assert failed.errors == ("smoothquant at 4 bits: its calibration scenes are those of the evaluation",)
    assert (failed.summary, other.errors) == (None, ())


def test_a_report_of_sensitivities_that_changes_is_another_one(tmp_path):
    store, report = CheckpointStore(tmp_path / "store", MODEL, MODEL), tmp_path / "report.json"
    options = replace(BASE, sensitivities=report)
    missing = store._settings("qvggt", options)
    report.write_text("{}")
    first = store._settings("qvggt", options)
    report.write_text("[]")
    assert len({str(each) for each in (missing, first, store._settings("qvggt", options))}) == 3


def test_photographs_that_change_are_other_photographs(tmp_path):
    from PIL import Image

    photo = tmp_path / "photos" / "a.png"
    photo.parent.mkdir()
    Image.new("RGB", (60, 50)).save(photo)
    store = CheckpointStore(tmp_path / "store", MODEL, MODEL)
    options = replace(BASE, calibration=replace(BASE.calibration, source=str(photo.parent)))
    before = store._settings("gptq", options)
    assert store._settings("gptq", options) == before
    assert store._settings("rtn", options)["calibration"] is None
    Image.new("RGB", (61, 50), "red").save(photo)
    assert store._settings("gptq", options) != before
    photo.unlink()
    with pytest.raises(QvggtError, match="no images"):
        store.get("gptq", options)


def test_a_damaged_checkpoint_is_made_again(tmp_path):
    compare(tmp_path, "rtn")
    (recipe,) = tmp_path.glob("compare/*/checkpoint/recipe.json")
    intact = recipe.read_bytes()
    recipe.write_bytes(intact[: len(intact) // 2])
    assert compare(tmp_path, "rtn").reused == 0
    assert recipe.read_bytes() == intact


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ()}, "at least one method"),
        ({"bits": ()}, "at least one width"),
        ({"bits": (4, 9)}, "from 2 to 8"),
        ({"seeds": ()}, "at least one seed"),
        ({"half": ("bfloat8",)}, "half type"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(change, words):
    with pytest.raises(QvggtError, match=words):
        CompareOptions(**change)


def test_compare__an_unknown_method_is_refused_before_any_work(tmp_path):
    with pytest.raises(QvggtError, match="magic"):
        qvggt.compare("nano", CompareOptions(("magic",)), store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_quantized_model_is_refused(made):
    folder = next(made[0].glob("compare/*/checkpoint"))
    with pytest.raises(QvggtError, match="quantized already"):
        qvggt.compare(folder, CompareOptions(("rtn",)), selection=FEW, store=made[0])


class Row(ComparisonRow):
    """A row of a size that no checkpoint has."""

    checkpoint_bytes = property(lambda self: self.bits)


def test_the_front_holds_what_nothing_beats():
    def rows(*places):
        return [Row("m", size, (), auc and Summary(("p",), 1, 1, {"auc30": auc}, {}, {})) for size, auc in places]

    assert optimal_rows(rows((300, 50.0), (200, 40.0), (250, 39.0), (400, 50.0)), "auc30") == [1, 0]
    assert optimal_rows(rows((1000, 40.0), (1001, 41.0), (999, None)), "auc30") == [1]  # a thousandth is no difference
    assert optimal_rows(rows((1000, 40.0), (1001, 40.0)), "auc30") == [0, 1]
    assert optimal_rows(rows((1, float("nan"))), "auc30") == []
    assert optimal_rows([], "auc30") == []
