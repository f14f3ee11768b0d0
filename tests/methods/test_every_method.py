"""What every calibrated method keeps to."""

import copy
from dataclasses import replace

import pytest
import torch

from quantizing import (
    CALIBRATED,
    OPTIONS,
    PHOTOS,
    ROOMS,
    SAMPLE,
    SMALL,
    contents,
    scenes,
    shorten,
    small_model,
    with_options,
)
from qvggt.api.quantize import quantize, quantize_to
from qvggt.calibration.size import storage_of
from qvggt.checkpoint.folder import open_checkpoint
from qvggt.checkpoint.write import save_checkpoint
from qvggt.data.splits import check_disjoint
from qvggt.methods.base import Method
from qvggt.methods.registry import METHODS
from qvggt.nn.convert import quantizable_layers
from qvggt.nn.linear import PackedLayer
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import QvggtError
from schemas import validate_checkpoint

CHOOSING = ("qvggt", "qvggt+")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    shorten(monkeypatch)


@pytest.fixture(scope="module", params=CALIBRATED)
def made(request):
    """Return a method's name and what it makes of the small model in memory."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        return request.param, quantize(small_model(), request.param, OPTIONS)


def packed_layers(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, PackedLayer)}


def test_quantize__packs_every_layer_of_the_recipe_on_its_grid(made, small):
    _, model = made
    recipe, layers = model.recipe, packed_layers(model)
    assert set(recipe.layers) == set(quantizable_layers(small))
    assert set(layers) == set(recipe.quantized)
    for name, layer in layers.items():
        scheme = recipe.quantized[name]
        assert layer.scheme == scheme
        values = layer.expanded().unflatten(1, (scheme.groups(layer.matrix_shape[1]), -1))
        codes = values / layer.weight_scale.float()[..., None]
        low, high = scheme.code_range
        assert torch.allclose(codes, codes.round(), atol=1e-3)
        assert low - 1e-3 <= codes.min() <= codes.max() <= high + 1e-3
        assert len(codes.round().unique()) > 2, "all weights alike"


@pytest.mark.parametrize("method", ["awq", "gptq", "smoothquant", "quarot"])
def test_quantize__8_bits_predict_nearly_like_the_float_model(method, small):
    images = scenes(7).images
    with torch.inference_mode():
        expected, found = small(images), quantize(small_model(), method, with_options(scheme=Scheme(8, 16)))(images)
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 0.1 * value.norm(), name


def test_save_checkpoint__predicts_bit_for_bit_like_the_model_in_memory(made, tmp_path):
    method, model = made
    save_checkpoint(model, tmp_path / method)
    loaded = open_checkpoint(tmp_path / method).load()
    assert loaded.recipe.quantized == model.recipe.quantized
    assert loaded.recipe.compensation == model.recipe.compensation
    images = scenes(7).images
    with torch.inference_mode():
        expected, found = model(images), loaded(images)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert all(bool(torch.isfinite(value).all()) for value in found.values())


def test_save_checkpoint__recipes_keep_to_the_schema(made, tmp_path):
    method, model = made
    recipe = validate_checkpoint(save_checkpoint(model, tmp_path / method))
    assert recipe["provenance"]["method"] == method
    assert ("compensation" in recipe) == model.recipe.compensation


def test_quantize_to__same_seed_gives_the_same_bytes_as_in_memory(made, named_small, tmp_path):
    method, model = made
    report = quantize_to(named_small, tmp_path / "a", method, OPTIONS)
    found = open_checkpoint(tmp_path / "a").load().recipe.provenance
    assert (found.source, found.source_hash) == (named_small, named_small)
    recipe = model.recipe
    about = replace(recipe.provenance, source=named_small, source_hash=named_small)
    model = copy.copy(model)
    model.recipe = replace(recipe, provenance=about)
    save_checkpoint(model, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert report.stages == about.stages


def test_quantize__other_scenes_give_other_bytes(tmp_path):
    calibrations = ROOMS, replace(ROOMS, seed=1)
    models = [quantize(small_model(), "gptq", with_options(calibration=one)) for one in calibrations]
    places = [save_checkpoint(model, tmp_path / str(index)) for index, model in enumerate(models)]
    first, second = (contents(place)["model.safetensors"] for place in places)
    assert first != second


def test_provenance__records_method_options_calibration_and_stages(made):
    method, model = made
    provenance = model.recipe.provenance
    assert provenance.method == method
    assert provenance.options["scheme"] == Scheme(4, 16).to_json()
    assert provenance.options["supervision"] == "teacher"
    assert provenance.calibration["photographs"] == str(SAMPLE)
    images = 8 if method == "qvggt+" else 6  # it tunes on further ones
    assert (provenance.calibration["images"], provenance.calibration["held_out"]) == (images, 1)
    assert provenance.versions.keys() == {"qvggt", "torch"}
    assert {"units", "allocation", "held_out_loss"} <= set(provenance.stages)
    assert bool(provenance.sensitivities) == (method in CHOOSING)
    predicted = provenance.stages["held_out_loss"]["predicted"]
    assert (predicted is not None and predicted >= 0) == (method in CHOOSING)
    expected = {"qvggt": {"compensate"}, "qvggt+": {"compensate", "tune"}}.get(method, set())
    assert {name for name, notes in provenance.stages.items() if "accepted" in notes} == expected


def test_held_out_loss__is_that_of_the_loaded_model(made):
    from qvggt.calibration.data import load_calibration, without_truth
    from qvggt.calibration.task import make_task

    _, model = made
    data = without_truth(load_calibration(PHOTOS, SMALL.image_size, SMALL.patch_size))
    task = make_task(small_model(), data.held_out, "teacher")
    assert model.recipe.provenance.stages["held_out_loss"]["quantized"] == task.total(model)


def test_provenance__calibration_rooms_are_refused_by_evaluations():
    model = quantize(small_model(), "gptq", with_options(calibration=ROOMS, supervision="truth"))
    calibration = model.recipe.provenance.calibration
    assert (calibration["dataset"], calibration["split"]) == ("rooms", "calib")
    assert len(calibration["scenes"]) == 2
    with pytest.raises(QvggtError, match="was calibrated on 1 of the scenes"):
        check_disjoint("m", calibration, "rooms", "calib", calibration["scenes"][:1])
    check_disjoint("m", calibration, "rooms", "test", ["test/00000"])


def test_quantize__photographs_have_no_truth():
    with pytest.raises(QvggtError, match=r"sample' has no ground truth"):
        quantize(small_model(), "gptq", with_options(supervision="truth"))


@pytest.mark.parametrize("method", ["awq", "gptq", "smoothquant", "qvggt"])
def test_quantize__float_layers_stay_unchanged(method, small):
    stay = FloatScheme("float32")
    model = quantize(
        small_model(), method, with_options(scheme=stay, conv=stay, float_type="float32", without=_without(method))
    )
    assert not packed_layers(model)
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in small.state_dict().items())


@pytest.mark.parametrize("method", ["awq", "gptq", "smoothquant", "quarot"])
def test_quantize__quantizes_only_selected_layers(method, small):
    model = quantize(small_model(), method, with_options(layers=("frame",)))
    assert packed_layers(model)
    assert all(name.startswith("aggregator.frame_blocks.") for name in packed_layers(model))
    state = model.state_dict()
    for name, value in small.state_dict().items():
        if not name.startswith("aggregator.frame_blocks."):
            assert torch.equal(state[name], value.half().to(state[name].dtype)), name


@pytest.mark.parametrize(("method", "bits"), [("qvggt", 3.7), ("qvggt+", 5.0)])
def test_quantize__keeps_a_budget_of_average_bits(method, bits):
    without = ("task", "compensate") if method == "qvggt" else ("tune", "compensate")
    scheme = Scheme(3, 32)
    model = quantize(small_model(), method, with_options(scheme=scheme, average_bits=bits, without=without))
    spent = storage_of(SMALL).average_bits(model.recipe.layers)
    assert spent <= bits
    assert spent > bits - 0.5, "the budget is left unspent"
    assert model.recipe.provenance.stages["allocation"]["average_bits"] == spent


def test_quantize_to__keeps_a_budget_of_bytes_and_refuses_one_too_small(named_small, tmp_path):
    options = with_options(scheme=Scheme(3, 32), without=("task", "compensate"), max_bytes=260_000)
    report = quantize_to(named_small, tmp_path / "small", "qvggt", options)
    tensors = (tmp_path / "small" / "model.safetensors").stat().st_size
    assert tensors <= 260_000
    assert report.checkpoint_bytes <= 260_000  # with the recipe and all that it records
    assert report.stages["allocation"]["checkpoint_bytes"] <= 260_000
    with pytest.raises(QvggtError, match="are too few"):
        quantize_to(named_small, tmp_path / "less", "qvggt", replace(options, max_bytes=1000))
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize("method", CALIBRATED)
def test_method__refuses_to_leave_out_an_unknown_stage(method):
    with pytest.raises(QvggtError, match="there is no stage 'magic' to leave out"):
        METHODS[method](with_options(without=("magic",)))


@pytest.mark.parametrize("method", CALIBRATED)
def test_method__refuses_a_rotated_scheme(method):
    with pytest.raises(QvggtError, match="choose --method quarot"):
        METHODS[method](with_options(scheme=Scheme(rotation=True)))


def test_options__refuse_unknown_tokens_and_two_budgets():
    with pytest.raises(QvggtError, match="'camara'"):
        with_options(tokens="camara+patch")
    with pytest.raises(QvggtError, match="two budgets"):
        with_options(average_bits=4.0, max_bytes=1)


def test_method__needs_only_quantize_unit():
    from qvggt.calibration.unit_store import UnitResult
    from qvggt.methods.run import quantize_calibrated
    from qvggt.quant.affine import quantize as round_to_nearest
    from qvggt.quant.recipe import Provenance

    class Nearest(Method):
        def quantize_unit(self, context):
            weights = {
                layer: round_to_nearest(context.model.get_parameter(f"{layer}.weight"), scheme)
                for layer, scheme in context.schemes.items()
            }
            return UnitResult(weights)

    found, losses = quantize_calibrated(small_model(), Nearest(OPTIONS), Provenance(method="nearest"))
    expected = quantize(small_model(), "rtn", OPTIONS)
    state = expected.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    assert losses.predicted is None
    with pytest.raises(NotImplementedError):
        quantize_calibrated(small_model(), Method(OPTIONS), Provenance(method="none"))


def test_quantize__refuses_a_quantized_model(made):
    with pytest.raises(QvggtError, match="quantized already"):
        quantize(made[1], "gptq", OPTIONS)


def _without(method):
    return ("select", "compensate") if method == "qvggt" else ()
