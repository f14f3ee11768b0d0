from importlib.metadata import EntryPoint

import pytest

from qvggt.methods import registry
from qvggt.methods.base import Method
from qvggt.methods.gptq import Gptq
from qvggt.methods.registry import METHODS, find_method, method_names, parse_variant
from qvggt.types import QvggtError


class Theirs(Method):
    """Somebody else's."""


NOT_A_METHOD = "a string"


@pytest.fixture
def announced(monkeypatch):
    """Return a function that lets packages announce methods, as name=value."""

    def announce(**entries):
        found = [EntryPoint(name, value, registry.ENTRY_POINTS) for name, value in entries.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: found if group == registry.ENTRY_POINTS else [])

    return announce


def test_ours_by_name():
    assert {"rtn", "awq", "gptq", "smoothquant", "quarot", "qvggt", "qvggt+"} <= set(method_names())
    assert method_names()[0] == "rtn"
    assert find_method("gptq") is Gptq
    for method in METHODS.values():
        assert method.summary
        assert method.summary[-1] != "."


def test_another_packages_method_appears(announced):
    announced(theirs=f"{__name__}:Theirs")
    assert method_names()[-1] == "theirs"
    assert find_method("theirs") is Theirs


def test_no_package_takes_a_name_of_ours(announced):
    announced(gptq=f"{__name__}:Theirs", rtn=f"{__name__}:Theirs")
    assert find_method("gptq") is Gptq
    assert method_names().count("gptq") == method_names().count("rtn") == 1


def test_what_cannot_be_loaded_or_is_no_method_is_said(announced):
    announced(gone="no_such_package:X", text=f"{__name__}:NOT_A_METHOD", lost=f"{__name__}:Missing")
    with pytest.raises(QvggtError, match="'gone' of no_such_package:X cannot be loaded"):
        find_method("gone")
    with pytest.raises(QvggtError, match="not a subclass"):
        find_method("text")
    with pytest.raises(QvggtError, match="cannot be loaded"):
        find_method("lost")


def test_an_unknown_name_lists_the_others(announced):
    announced(theirs=f"{__name__}:Theirs")
    with pytest.raises(QvggtError, match=r"no method 'magic': choose one of rtn, awq, .*theirs"):
        find_method("magic")


def test_a_variant_names_a_method_and_the_stages_it_leaves_out():
    assert parse_variant("qvggt-filter-task") == ("qvggt", ("filter", "task"))
    assert parse_variant("rtn") == ("rtn", ())
    with pytest.raises(QvggtError, match="has no stage 'tune'"):
        parse_variant("qvggt-tune")
    with pytest.raises(QvggtError, match="has no stage 'select'"):
        parse_variant("rtn-select")
