"""Whole evaluations of a model with stand-in weights on a few small rooms."""

import json
from dataclasses import replace

import pytest

import qvggt
from qvggt import QvggtError, RunOptions, Selection
from qvggt.eval.report import ModelCard
from qvggt.options import QuantizeOptions, WindowOptions
from qvggt.quant.scheme import Scheme

FEW = Selection(scenes=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "micro-4bit"
    qvggt.quantize_to("seeded:micro", folder, "rtn", QuantizeOptions(Scheme(4, 32)))
    return folder


@pytest.fixture(scope="module")
def evaluation(checkpoint):
    return qvggt.evaluate(checkpoint, selection=FEW, baseline="seeded:micro", fidelity_to="seeded:micro")


def test_json_holds_what_a_fair_comparison_needs(evaluation, checkpoint):
    figures = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert (figures["dataset"], figures["split"], figures["landmarks"]) == ("rooms", "test", 1.0)
    assert figures["protocol"] == "pose-standard, depth-scale, points-consistent"
    assert (figures["scenes"], figures["pairs"], figures["seed"]) == (4, 4 * 28, 0)
    assert figures["model"] == str(checkpoint)
    assert figures["model_hash"].startswith("sha256:")
    assert (figures["method"], figures["calibration"]) == ("rtn", {})
    assert 4 < figures["average_bits"] < 16
    assert figures["checkpoint_bytes"] == sum(path.stat().st_size for path in checkpoint.glob("[!.R]*"))
    assert {"auc30", "auc15", "auc5", "auc3", "absrel", "delta1", "point_error"} <= set(figures["metrics"])
    assert set(figures["intervals"]) == set(figures["metrics"])
    low, high = figures["intervals"]["absrel"]
    assert low <= figures["metrics"]["absrel"] <= high


def test_baseline_chance_and_fidelity_stand_beside(evaluation):
    figures = evaluation.to_json()
    assert figures["baseline"]["model"] == "seeded:micro"
    assert figures["baseline"]["average_bits"] == 32
    assert figures["chance"]["metrics"]["auc30"] < 20
    assert figures["fidelity"]["to"]["model"] == "seeded:micro"
    assert figures["fidelity"]["metrics"]["fidelity_depth_rel"] > 0


def test_a_model_alone_gives_the_same_digits_as_in_company(evaluation, checkpoint):
    assert qvggt.evaluate(checkpoint, selection=FEW).model.summary == evaluation.model.summary
    in_memory = qvggt.evaluate(qvggt.load(checkpoint), selection=FEW)
    assert in_memory.model.summary == evaluation.model.summary


def test_a_second_run_goes_on_and_gives_the_same_digits(evaluation, checkpoint, tmp_path):
    run = RunOptions(store=tmp_path)
    first = qvggt.evaluate(checkpoint, selection=replace(FEW, scenes=2), run=run)
    whole = qvggt.evaluate(checkpoint, selection=FEW, run=run)
    assert (first.stored, whole.stored) == (0, 4)  # two scenes, by the model and by chance
    assert whole.model.summary == evaluation.model.summary
    assert whole.to_json()["chance"] == evaluation.to_json()["chance"]


def test_another_model_never_meets_stored_results(checkpoint, tmp_path):
    run, some = RunOptions(store=tmp_path), replace(FEW, scenes=1)
    qvggt.evaluate(checkpoint, selection=some, run=run)
    model = qvggt.load(checkpoint)
    assert qvggt.evaluate("seeded:micro", selection=some, run=run).stored == 1  # by chance
    assert qvggt.evaluate(model, selection=some, run=run).stored == 1
    model.camera_head.trunk_norm.weight.mul_(1.5)
    assert qvggt.evaluate(model, selection=some, run=run).stored == 1


def test_progress_counts_scenes_and_ends_at_one(checkpoint):
    seen = []
    qvggt.evaluate(checkpoint, selection=replace(FEW, scenes=2), on_progress=lambda *step: seen.append(step))
    assert [share for _, share in seen] == [0.25, 0.5, 0.75, 1.0]
    assert seen[1][0].endswith("2 of 2 scenes")


def test_a_folder_without_truth_measures_fidelity(checkpoint, tmp_path, images_of_a_room):
    evaluation = qvggt.evaluate(
        checkpoint, "folder", selection=Selection(root=images_of_a_room), fidelity_to="seeded:micro"
    )
    assert evaluation.model.summary.protocols == ("fidelity",)
    assert evaluation.chance is evaluation.fidelity is None
    with pytest.raises(QvggtError, match=r"no default protocol.*--fidelity-to"):
        qvggt.evaluate(checkpoint, "folder", selection=Selection(root=images_of_a_room))
    with pytest.raises(QvggtError, match="has no true cameras"):
        qvggt.evaluate(checkpoint, "folder", None, ("pose-standard",), Selection(root=images_of_a_room))


def test_fidelity_is_measured_in_windows_too(checkpoint, tmp_path):
    def differences(run):
        selection = Selection(scenes=1, frames=4)
        evaluation = qvggt.evaluate(checkpoint, selection=selection, fidelity_to="seeded:micro", run=run)
        return evaluation.fidelity.results[0].values

    whole, windows = (
        differences(RunOptions(tmp_path / f"{windows}", windows=windows)) for windows in (None, WindowOptions(2, 1))
    )
    assert windows["fidelity_translation_deg"] != whole["fidelity_translation_deg"]


@pytest.fixture
def images_of_a_room(tmp_path):
    from PIL import Image

    from qvggt.data.rooms.family import load_rooms

    (room,) = load_rooms("val", (56, 56), scenes=1, frames=2)
    for index, image in enumerate(room.images):
        Image.fromarray((image.transpose(1, 2, 0) * 255).astype("uint8")).save(tmp_path / f"{index}.png")
    return tmp_path


@pytest.mark.parametrize(
    "calibration",
    [
        {"dataset": "rooms", "split": "test"},
        {"parts": [{"dataset": "rooms", "split": "calib"}, {"dataset": "rooms", "scenes": ["test/00003"]}]},
    ],
)
def test_a_model_is_not_evaluated_on_what_it_was_calibrated_on(checkpoint, calibration):
    model = qvggt.load(checkpoint)
    model.recipe = replace(model.recipe, provenance=replace(model.recipe.provenance, calibration=calibration))
    with pytest.raises(QvggtError, match=r"a model in memory was calibrated on .*evaluate on"):
        qvggt.evaluate(model)
    with pytest.raises(QvggtError, match="was calibrated on"):
        qvggt.evaluate("seeded:micro", baseline=model)
    assert qvggt.evaluate(model, split="val", selection=replace(FEW, scenes=1)).model.card.calibration == calibration


def test_models_of_other_sizes_are_not_compared(checkpoint):
    with pytest.raises(QvggtError, match="compare models of one architecture"):
        qvggt.evaluate(checkpoint, selection=FEW, fidelity_to="seeded:nano")


def test_chance_can_be_the_baseline(checkpoint):
    evaluation = qvggt.evaluate(checkpoint, selection=replace(FEW, scenes=1), baseline="chance")
    assert evaluation.baseline is not None
    assert evaluation.baseline.card == ModelCard("chance", method="chance")
    assert evaluation.chance is None


def test_the_float_model_computes_in_float32_whatever_the_model_does(tmp_path):
    some = replace(FEW, scenes=1)

    def far(model, compute, store=None):
        run = RunOptions(store, compute=compute)
        return qvggt.evaluate(model, selection=some, fidelity_to="seeded:micro", run=run)

    assert far("seeded:micro", "float32").fidelity.summary.metrics["fidelity_auc3"] == 100
    half = far("seeded:micro", "bfloat16", tmp_path)
    differences = half.fidelity.summary.metrics
    assert differences["fidelity_depth_rel"] > 0
    assert differences["fidelity_rotation_deg"] > 0.001
    assert half.on.machine["compute"] == "bfloat16"
    assert half.on.machine["float_compute"] == "float32"
    assert [json.loads(path.read_text())["reference"]["compute"] for path in settings_with_reference(tmp_path)] == [
        "float32"
    ]


def settings_with_reference(store):
    return [path for path in store.glob("*/settings.json") if '"reference"' in path.read_text()]


def test_notes_of_the_model_and_of_its_fidelity_stand_side_by_side():
    broken = qvggt.load("seeded:micro")
    broken.camera_head.pose_branch.fc2.bias.fill_(float("nan"))
    evaluation = qvggt.evaluate(broken, selection=replace(FEW, scenes=1), fidelity_to="seeded:micro")
    assert evaluation.fidelity.summary.metrics["fidelity_auc30"] == 0
    (notes,) = evaluation.notes.values()
    assert {note.partition(":")[0] for note in notes} >= {"pose-standard", "fidelity"}
