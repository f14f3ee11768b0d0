"""The code on the page for extenders runs, and its tables are those of the contract."""

import inspect
import re
from pathlib import Path

import pytest
import torch

import qvggt
from qvggt.methods import Method
from qvggt.nn.linear import PackedLayer

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
METHOD, TEST, DECODE, SCHEMA = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def run(code: str, names: dict) -> dict:
    exec(compile(code, "docs/extending.md", "exec"), names)
    return names


def test_the_method_on_the_page_keeps_the_contract_by_the_test_on_the_page():
    run(TEST, run(METHOD, {"__name__": "page"}))["test_clipped_keeps_the_contract"]()


def test_the_tables_name_all_that_a_method_states_and_overrides():
    contract = TEXT.partition("### The contract")[2].partition("### Its test")[0]
    stated = re.findall(r"^\| `(\w+)` \|.*\|$", contract, re.MULTILINE)
    assert stated == [name for name in Method.__annotations__ if name in vars(Method)]
    calls = re.findall(r"`(\w+)\(([\w, ]+)\)`", contract)
    public = [name for name, each in vars(Method).items() if inspect.isfunction(each) and not name.startswith("_")]
    assert sorted(name for name, _ in calls) == sorted(["__init__", *public])
    for name, parameters in calls:
        assert ["self", *parameters.split(", ")] == list(inspect.signature(getattr(Method, name)).parameters)


def test_compressed_tensors_decodes_a_checkpoint_as_the_page_says(tmp_path, monkeypatch):
    pytest.importorskip("compressed_tensors.entrypoints.convert.converters")
    monkeypatch.chdir(tmp_path)
    qvggt.quantize_to("seeded:micro", "vggt-4bit", options=qvggt.QuantizeOptions(scheme=qvggt.Scheme(4, 32)))
    weights = run(DECODE, {})["weights"]
    model = qvggt.load("vggt-4bit", device="cpu", compute="float32")
    packed = {f"{name}.weight": layer for name, layer in model.named_modules() if isinstance(layer, PackedLayer)}
    assert packed
    for name, layer in packed.items():
        assert torch.equal(weights[name], layer.expanded(torch.float16)), name
    plain = {name: value for name, value in model.state_dict().items() if ".weight_" not in name}
    assert weights.keys() == packed.keys() | plain.keys()
    assert all(torch.equal(weights[name].float(), value.float()) for name, value in plain.items())


def test_the_schema_is_where_the_page_says():
    assert run(SCHEMA, {})["schema"]["title"].startswith("recipe.json")
