"""The stages of our own methods: what each does and when it is dropped."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from quantizing import SMALL, context_of, scenes, shorten, small_model, with_options
from qvggt.api.quantize import quantize
from qvggt.calibration import gradient_sensitivity
from qvggt.calibration.gradient_sensitivity import find_sensitivity
from qvggt.calibration.run import QuantizationResult
from qvggt.calibration.task import make_task
from qvggt.methods import qvggt as module
from qvggt.methods.base import MethodContext
from qvggt.methods.compensate import Compensation
from qvggt.methods.gptq import Gptq
from qvggt.methods.qvggt import Qvggt, QvggtPlus, candidate_schemes
from qvggt.methods.tune import Tuned
from qvggt.model import VGGT
from qvggt.nn.convert import quantizable_layers
from qvggt.quant.affine import quantize as round_to_nearest
from qvggt.quant.scheme import MAX_BITS, Scheme
from qvggt.types import QvggtError


@pytest.fixture(autouse=True)
def short(monkeypatch):
    shorten(monkeypatch)


PLAIN = with_options(without=("select", "task"), layers=("global",))
"""Few layers, and no stage but compensation: for tests of what comes after them."""
ALL = ("camera", "register", "patch")


def context_for(model):
    task, held_out = (make_task(model, [scenes(seed)], "teacher") for seed in (0, 1))
    return MethodContext(model, small_model(), quantizable_layers(model), task, held_out)


@pytest.mark.parametrize("bits", range(2, 9))
def test_candidate_schemes__are_around_the_requested_bits(bits):
    base = Scheme(bits, 32, symmetric=False)
    found = candidate_schemes(base)
    assert base in found
    assert replace(base, bits=MAX_BITS) in found
    assert len(set(found)) == len(found)
    assert all(replace(scheme, bits=bits) == base for scheme in found)


def test_qvggt__refuses_unknown_stages_by_name():
    with pytest.raises(QvggtError, match=r"no stage 'tune' to leave out: choose from select, filter, compensate, task"):
        Qvggt(with_options(without=("tune",)))
    with pytest.raises(QvggtError, match=r"no stage 'task' to leave out: choose from"):
        QvggtPlus(with_options(without=("task",)))


def test_token_classes__follow_filtering():
    assert Qvggt(with_options()).token_classes == ("patch",)
    assert Qvggt(with_options(without=("filter",))).token_classes == ALL
    assert Qvggt(with_options(without=("filter",), tokens="camera+patch")).token_classes == ("camera", "patch")
    assert Qvggt(with_options(tokens="all")).token_classes == ALL
    assert QvggtPlus(with_options(tokens="patch")).token_classes == ("patch",)


def test_choose_schemes__without_selection_every_layer_has_the_users_scheme(small):
    method = Qvggt(with_options(without=("select",)))
    choice = method.choose_schemes(context_for(small_model()))
    kinds = {"linear": Scheme(4, 16), "conv2d": Scheme(8, 16)}
    assert choice.schemes == {layer: kinds[shape.kind] for layer, shape in quantizable_layers(small).items()}
    assert (choice.sensitivities, choice.notes) == ({}, {})


def test_choose_schemes__uses_a_given_report(tmp_path, monkeypatch):
    context = context_for(small_model())
    expected = Qvggt(with_options()).choose_schemes(context)
    (report,) = context.sensitivities.values()
    (tmp_path / "report.json").write_text(json.dumps(report.to_json()))
    monkeypatch.setattr(module, "find_sensitivity", None)
    found = Qvggt(with_options(sensitivities=tmp_path / "report.json")).choose_schemes(context)
    assert found.schemes == expected.schemes
    assert found.sensitivities == expected.sensitivities


def test_choose_schemes__a_report_of_another_rounding_is_used_with_a_warning(tmp_path, caplog):
    context = context_for(small_model())
    Qvggt(with_options()).choose_schemes(context)
    (report,) = context.sensitivities.values()
    path = tmp_path / "report.json"
    for rounding, warned in (("nearest", False), ("second-order", True)):
        path.write_text(json.dumps({**report.to_json(), "rounding": rounding}))
        caplog.clear()
        Qvggt(with_options(sensitivities=path)).choose_schemes(context)
        assert ("with rounding second-order, but this method rounds nearest" in caplog.text) == warned


def test_choose_schemes__shared_sensitivities_are_measured_once(monkeypatch):
    measured = []

    def find(*args, **options):
        measured.append(options["rounder"] is not None)
        return find_sensitivity(*args, **options)

    monkeypatch.setattr(module, "find_sensitivity", find)
    context = context_for(small_model())
    choices = [Qvggt(with_options(without=without)).choose_schemes(context) for without in ((), ("filter", "task"))]
    assert choices[0] == choices[1]
    assert measured == [False]
    QvggtPlus(with_options()).choose_schemes(context)
    assert measured == [False, True]
    next(context.model.camera_head.parameters()).data.add_(1)
    Qvggt(with_options()).choose_schemes(context)
    assert measured == [False, True, False]
    Qvggt(with_options()).choose_schemes(replace(context, sensitivities={}))
    assert measured == [False, True, False, False]


def test_choose_schemes__by_gradient_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(gradient_sensitivity, "measure_sensitivity", None)
    context = context_for(small_model())
    choice = Qvggt(with_options(select_by="gradient")).choose_schemes(context)
    assert choice.notes["additivity"] == "squares"
    assert set(choice.schemes) == set(context.shapes)
    assert len(context.sensitivities) == 1


def test_options__say_how_schemes_were_selected_if_not_as_usual():
    assert "select_by" not in with_options().to_json()
    assert with_options(select_by="measurement").to_json()["select_by"] == "measurement"
    assert with_options(select_by="gradient").to_json()["select_by"] == "gradient"


def test_options__gradients_do_not_tell_of_ground_truth():
    with pytest.raises(QvggtError, match=r"\(--select-by measurement\)$"):
        with_options(select_by="gradient", supervision="truth")


def test_methods_without_a_budget_refuse_how_to_select():
    with pytest.raises(QvggtError, match="choose qvggt or qvggt"):
        Gptq(with_options(select_by="gradient"))


def test_qvggt__refuses_an_unreadable_report_before_anything_is_done(tmp_path):
    with pytest.raises(QvggtError, match="sensitivity report"):
        Qvggt(with_options(sensitivities=tmp_path / "none.json"))


def test_prepare__reorders_hidden_units_unless_left_out(small):
    before = small_model()
    for method, changes in ((QvggtPlus(with_options()), True), (QvggtPlus(with_options(without=("reorder",))), False)):
        model = small_model()
        method.prepare(model)
        same = all(torch.equal(value, model.state_dict()[name]) for name, value in before.state_dict().items())
        assert same != changes


def test_quantize_unit__task_stage_scores_end_to_end(small):
    task = make_task(small, [scenes()], "teacher")
    context = context_of(small, [scenes()], "global/1", Scheme(3, 16), task)
    with torch.no_grad():
        scored, plain = (Qvggt(with_options(without=w)).quantize_unit(context).notes for w in ((), ("task",)))
    assert scored.keys() == plain.keys() == context.schemes.keys()
    assert all("task" in notes for notes in scored.values())
    assert not any("task" in notes for notes in plain.values())


@pytest.mark.parametrize(("after", "accepted"), [(0.5, True), (1.5, False)])
def test_the_token_is_kept_only_if_it_helps(monkeypatch, after, accepted):
    token = torch.randn(1, 1, 2 * SMALL.embed_dim)
    monkeypatch.setattr(module, "try_compensation", lambda *args: Compensation(token, 1.0, after))
    model = quantize(small_model(), "qvggt", PLAIN)
    recipe = model.recipe
    assert recipe.compensation is accepted
    assert recipe.provenance.stages["compensate"] == {"before": 1.0, "after": after, "accepted": accepted}
    if accepted:
        assert torch.equal(model.camera_head.compensation, token.half().float())
    else:
        assert model.camera_head.compensation is None


def test_finish__without_compensation_none_is_tried(monkeypatch):
    monkeypatch.setattr(module, "try_compensation", lambda *args: pytest.fail("asked for"))
    recipe = quantize(small_model(), "qvggt", replace(PLAIN, without=("select", "task", "compensate"))).recipe
    assert not recipe.compensation
    assert "compensate" not in recipe.provenance.stages


@pytest.fixture
def rounded():
    """Return a context whose model has quantized values, and the result that they come from."""
    context = context_for(small_model())
    weights = {
        layer: round_to_nearest(context.model.get_parameter(f"{layer}.weight"), Scheme(3, 16).for_width(shape.width))
        for layer, shape in context.shapes.items()
    }
    module.apply(context.model, module.UnitResult(weights))
    return context, QuantizationResult(weights, {"units": {}})


def tuned_to(monkeypatch, weights, parameters):
    monkeypatch.setattr(module, "tune", lambda *_, **__: Tuned(weights, parameters, 2.0, 1.0))


def test_tuned__is_undone_if_it_does_not_help(monkeypatch, rounded):
    context, given = rounded
    before = {name: parameter.clone() for name, parameter in context.model.named_parameters()}
    loss = context.held_out.total(context.model)
    spoilt = {
        name: torch.zeros_like(p) for name, p in context.model.named_parameters() if name.endswith("norm1.weight")
    }
    monkeypatch.setattr(type(context.held_out), "total", _totals([loss, loss + 1]))
    tuned_to(monkeypatch, given.weights, spoilt)
    found = QvggtPlus(with_options()).tuned(context, context.teacher, given)
    assert found.weights is given.weights
    assert found.stages["tune"] == {
        "first_loss": 2.0, "last_loss": 1.0, "before": loss, "after": loss + 1, "accepted": False
    }  # fmt: skip
    assert all(torch.equal(context.model.get_parameter(name), value) for name, value in before.items())


def test_tuned__is_kept_if_it_helps(monkeypatch, rounded):
    context, given = rounded
    other = {layer: replace(weight, codes=weight.codes.clone().zero_()) for layer, weight in given.weights.items()}
    name = "aggregator.frame_blocks.0.norm1.bias"
    moved = {name: context.model.get_parameter(name) + 1}
    monkeypatch.setattr(type(context.held_out), "total", _totals([2.0, 1.0]))
    tuned_to(monkeypatch, other, moved)
    found = QvggtPlus(with_options()).tuned(context, context.teacher, given)
    assert found.weights == other
    assert found.stages["tune"]["accepted"] is True
    assert torch.equal(context.model.get_parameter(name), moved[name])
    assert not context.model.get_parameter("aggregator.frame_blocks.0.attn.qkv.weight").any()


def test_finish__tuning_changes_float_parameters_too(monkeypatch, small):
    monkeypatch.setattr(module, "try_compensation", lambda *args: Compensation(torch.ones(1, 1, 64), 1.0, 2.0))
    model = quantize(small_model(), "qvggt+", with_options(without=("select",)))
    notes = model.recipe.provenance.stages["tune"]
    norm = "aggregator.global_blocks.0.norm1.weight"
    kept = torch.equal(model.get_parameter(norm), small.get_parameter(norm).half().float())
    assert kept is not notes["accepted"]


def _totals(values):
    given = iter(values)
    return lambda self, model: next(given)


def test_reconstruct__uses_the_compensation_token(monkeypatch, tmp_path):
    from quantizing import SAMPLE
    from qvggt.api.reconstruct import load, reconstruct, save

    token = 3 * torch.ones(1, 1, 2 * SMALL.embed_dim)
    answers = []
    for after in (0.5, 1.5):
        monkeypatch.setattr(module, "try_compensation", lambda *args, after=after: Compensation(token, 1.0, after))
        folder = save(quantize(small_model(), "qvggt", PLAIN), tmp_path / str(after))
        model = load(folder)
        assert isinstance(model, VGGT)
        assert (model.camera_head.compensation is not None) == (after < 1)
        answers.append(reconstruct(folder, sorted(SAMPLE.glob("*.jpg"))[:3]))
    with_token, without = answers
    assert with_token.cam_from_world.shape == without.cam_from_world.shape == (3, 3, 4)
    assert (with_token.depth == without.depth).all()
    assert not (with_token.cam_from_world == without.cam_from_world).all()
    assert isinstance(load(tmp_path / "0.5").camera_head.compensation, nn.Parameter)
