"""The test of the contract that other packages reuse: our methods keep it, and it finds what breaks it."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from quantizing import shorten
from qvggt.methods.awq import Awq
from qvggt.methods.gptq import Gptq
from qvggt.methods.registry import METHODS
from qvggt.methods.rtn import Rtn
from qvggt.methods.testing import check_method
from qvggt.quant.affine import Grid

PACKAGE = Path(__file__).parents[2] / "examples" / "method-package"


SLOW = ("qvggt", "qvggt+")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in METHODS]
)
def test_check_method__our_methods_pass(name, monkeypatch):
    shorten(monkeypatch)
    check_method(METHODS[name])


def test_check_method__the_example_package_passes_its_own_test(monkeypatch):
    monkeypatch.syspath_prepend(PACKAGE / "src")
    try:
        module = runpy.run_path(str(PACKAGE / "tests" / "test_in_turns.py"))
        module["test_in_turns_keeps_the_contract"]()
    finally:
        sys.modules.pop("in_turns", None)


class Silent(Awq):
    summary = ""


class Careless(Awq):
    def _check_calibrated(self):
        pass


def changed(change):
    """Return a method whose results are changed before they are returned."""

    class Changed(Awq):
        def quantize_unit(self, context):
            result = super().quantize_unit(context)
            return replace(result, weights={name: change(weight) for name, weight in result.weights.items()})

    return Changed


class Meddling(Awq):
    def quantize_unit(self, context):
        result = super().quantize_unit(context)
        context.model.get_parameter(f"{next(iter(context.schemes))}.weight").data.zero_()
        return result


class Forgetful(Awq):
    def quantize_unit(self, context):
        result = super().quantize_unit(context)
        return replace(result, weights=dict(list(result.weights.items())[1:]))


class Moody(Awq):
    runs = 0

    def __init__(self, options):
        super().__init__(options)
        Moody.runs += 1

    def quantize_unit(self, context):
        result = super().quantize_unit(context)
        doubled = {
            name: replace(w, grid=Grid(w.grid.scale * (1 + Moody.runs / 8))) for name, w in result.weights.items()
        }
        return replace(result, weights=doubled)


class Wide(Gptq):
    def quantize_unit(self, context):
        result = super().quantize_unit(context)
        doubled = {name: replace(w, grid=Grid(w.grid.scale * 2)) for name, w in result.weights.items()}
        return replace(result, weights=doubled)


class Streaming(Rtn):
    def stream(self, weights, config, recipe):
        for name, tensor in super().stream(weights, config, recipe):
            yield name, tensor if "weight_packed" not in name else tensor + 1


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (int, "derives from qvggt.methods.Method"),
        (Silent, "has a summary"),
        (Careless, "refuses to leave out a stage"),
        (Meddling, "must leave the model as it was"),
        (Forgetful, "must return every layer in context.schemes"),
        (changed(lambda weight: replace(weight, codes=weight.codes.short())), "must be int8"),
        (changed(lambda weight: replace(weight, codes=weight.codes[:, 1:])), "must have the shape of its weight"),
        (changed(lambda weight: replace(weight, codes=weight.codes * 0 + 9)), r"must lie in -8\.\.7"),
        (changed(lambda weight: replace(weight, grid=Grid(weight.grid.scale.float()))), r"must be torch\.float16"),
        (changed(lambda weight: replace(weight, grid=Grid(weight.grid.scale * 0))), "positive and finite"),
        (changed(lambda weight: replace(weight, scheme=replace(weight.scheme, bits=3))), "must have the scheme"),
        (Moody, "must give the same bytes"),
        (Wide, "8 bits must change"),
        (Streaming, "stream must yield the tensors"),
    ],
)
def test_check_method__says_what_is_broken(method, words):
    with pytest.raises(AssertionError, match=words):
        check_method(method)
