"""The stages of our own methods: what each does and when it is dropped."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from quantizing import SMALL, context_of, scenes, small_model, with_options
from qvggt.api.quantize import quantize
from qvggt.calibration.sensitivity import measure_sensitivity
from qvggt.calibration.task import make_task
from qvggt.methods import qvggt as module
from qvggt.methods.base import Bench, Outcome
from qvggt.methods.compensate import Compensation
from qvggt.methods.qvggt import Qvggt, QvggtPlus, candidate_schemes
from qvggt.methods.tune import Tuned
from qvggt.model import VGGT
from qvggt.nn.convert import quantizable_layers
from qvggt.quant.affine import quantize as round_to_nearest
from qvggt.quant.scheme import MAX_BITS, Scheme
from qvggt.types import QvggtError

PLAIN = with_options(without=("select", "task"), layers=("global",))
"""Few layers, and no stage but compensation: for tests of what comes after them."""
ALL = ("camera", "register", "patch")


def bench_of(model):
    task, held_out = (make_task(model, [scenes(seed)], "teacher") for seed in (0, 1))
    return Bench(model, small_model(), quantizable_layers(model), task, held_out)


@pytest.mark.parametrize("bits", range(2, 9))
def test_candidates_are_around_the_width_asked_for(bits):
    base = Scheme(bits, 32, symmetric=False)
    found = candidate_schemes(base)
    assert base in found
    assert replace(base, bits=MAX_BITS) in found
    assert len(set(found)) == len(found)
    assert all(replace(scheme, bits=bits) == base for scheme in found)


def test_unknown_stages_are_refused_by_name():
    with pytest.raises(QvggtError, match=r"no stage 'tune' to leave out: choose from select, filter, compensate, task"):
        Qvggt(with_options(without=("tune",)))
    with pytest.raises(QvggtError, match=r"no stage 'task' to leave out: choose from"):
        QvggtPlus(with_options(without=("task",)))


def test_filtering_switches_the_token_classes():
    assert Qvggt(with_options()).token_classes == ("patch",)
    assert Qvggt(with_options(without=("filter",))).token_classes == ALL
    assert Qvggt(with_options(without=("filter",), tokens="camera+patch")).token_classes == ("camera", "patch")
    assert Qvggt(with_options(tokens="all")).token_classes == ALL
    assert QvggtPlus(with_options(tokens="patch")).token_classes == ("patch",)


def test_without_selection_every_layer_has_the_users_scheme(small):
    method = Qvggt(with_options(without=("select",)))
    plan = method.plan(bench_of(small_model()))
    kinds = {"linear": Scheme(4, 16), "conv2d": Scheme(8, 16)}
    assert plan.schemes == {layer: kinds[shape.kind] for layer, shape in quantizable_layers(small).items()}
    assert (plan.sensitivities, plan.notes) == ({}, {})


def test_a_report_that_is_there_is_weighed(small, tmp_path, monkeypatch):
    bench = bench_of(small_model())
    report = measure_sensitivity(bench.model, bench.task, candidate_schemes(Scheme(4, 16)), "part")
    (tmp_path / "report.json").write_text(json.dumps(report.to_json()))
    expected = Qvggt(with_options()).plan(bench)
    monkeypatch.setattr(module, "measure_sensitivity", None)
    found = Qvggt(with_options(sensitivities=tmp_path / "report.json")).plan(bench)
    assert found.schemes == expected.schemes
    assert found.sensitivities == expected.sensitivities


def test_what_was_measured_in_this_process_is_not_measured_again(monkeypatch):
    measured = []

    def measure(*args, **options):
        measured.append(options["rounder"] is not None)
        return measure_sensitivity(*args, **options)

    monkeypatch.setattr(module, "_MEASURED", {})
    monkeypatch.setattr(module, "measure_sensitivity", measure)
    bench = bench_of(small_model())
    plans = [Qvggt(with_options(without=without)).plan(bench) for without in ((), ("filter", "task"))]
    assert plans[0] == plans[1]
    assert measured == [False]
    QvggtPlus(with_options()).plan(bench)
    assert measured == [False, True]
    next(bench.model.camera_head.parameters()).data.add_(1)
    Qvggt(with_options()).plan(bench)
    assert measured == [False, True, False]


def test_qvggt__refuses_an_unreadable_report_before_anything_is_done(tmp_path):
    with pytest.raises(QvggtError, match="sensitivity report"):
        Qvggt(with_options(sensitivities=tmp_path / "none.json"))


def test_hidden_units_are_put_in_order_unless_that_is_left_out(small):
    before = small_model()
    for method, changes in ((QvggtPlus(with_options()), True), (QvggtPlus(with_options(without=("reorder",))), False)):
        model = small_model()
        method.prepare(model)
        same = all(torch.equal(value, model.state_dict()[name]) for name, value in before.state_dict().items())
        assert same != changes


def test_the_task_stage_scores_end_to_end(small):
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


def test_without_compensation_nobody_tries(monkeypatch):
    monkeypatch.setattr(module, "try_compensation", lambda *args: pytest.fail("asked for"))
    recipe = quantize(small_model(), "qvggt", replace(PLAIN, without=("select", "task", "compensate"))).recipe
    assert not recipe.compensation
    assert "compensate" not in recipe.provenance.stages


@pytest.fixture
def outcome():
    """Return a bench whose model holds quantized values, and the outcome that it came from."""
    bench = bench_of(small_model())
    weights = {
        layer: round_to_nearest(bench.model.get_parameter(f"{layer}.weight"), Scheme(3, 16).for_width(shape.width))
        for layer, shape in bench.shapes.items()
    }
    module.apply(bench.model, module.UnitResult(weights))
    return bench, Outcome(weights, {"units": {}})


def tuned_to(monkeypatch, weights, parameters):
    monkeypatch.setattr(module, "tune", lambda *_, **__: Tuned(weights, parameters, 2.0, 1.0))


def test_tuning_that_does_not_help_is_undone(monkeypatch, outcome):
    bench, given = outcome
    before = {name: parameter.clone() for name, parameter in bench.model.named_parameters()}
    loss = bench.held_out.total(bench.model)
    spoilt = {name: torch.zeros_like(p) for name, p in bench.model.named_parameters() if name.endswith("norm1.weight")}
    monkeypatch.setattr(type(bench.held_out), "total", _totals(bench, [loss, loss + 1]))
    tuned_to(monkeypatch, given.weights, spoilt)
    found = QvggtPlus(with_options()).tuned(bench, bench.teacher, given)
    assert found.weights is given.weights
    assert found.stages["tune"] == {
        "first_loss": 2.0, "last_loss": 1.0, "before": loss, "after": loss + 1, "accepted": False
    }  # fmt: skip
    assert all(torch.equal(bench.model.get_parameter(name), value) for name, value in before.items())


def test_tuning_that_helps_is_kept(monkeypatch, outcome):
    bench, given = outcome
    other = {layer: replace(weight, codes=weight.codes.clone().zero_()) for layer, weight in given.weights.items()}
    name = "aggregator.frame_blocks.0.norm1.bias"
    moved = {name: bench.model.get_parameter(name) + 1}
    monkeypatch.setattr(type(bench.held_out), "total", _totals(bench, [2.0, 1.0]))
    tuned_to(monkeypatch, other, moved)
    found = QvggtPlus(with_options()).tuned(bench, bench.teacher, given)
    assert found.weights == other
    assert found.stages["tune"]["accepted"] is True
    assert torch.equal(bench.model.get_parameter(name), moved[name])
    assert not bench.model.get_parameter("aggregator.frame_blocks.0.attn.qkv.weight").any()


def test_tuning_changes_what_stays_floating_too(monkeypatch, small):
    monkeypatch.setattr(QvggtPlus, "tuning", replace(QvggtPlus.tuning, steps=4))
    monkeypatch.setattr(module, "try_compensation", lambda *args: Compensation(torch.ones(1, 1, 64), 1.0, 2.0))
    model = quantize(small_model(), "qvggt+", with_options(without=("select",)))
    notes = model.recipe.provenance.stages["tune"]
    norm = "aggregator.global_blocks.0.norm1.weight"
    kept = torch.equal(model.get_parameter(norm), small.get_parameter(norm).half().float())
    assert kept is not notes["accepted"]


def _totals(bench, values):
    given = iter(values)
    return lambda self, model: next(given)


def test_a_reconstruction_uses_the_token_by_itself(monkeypatch, tmp_path):
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
