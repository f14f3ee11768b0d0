"""A method that another package brings, made visible as an installed package would be."""

import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest
import torch

import qvggt
from qvggt.cli import main
from qvggt.methods.registry import ENTRY_POINTS, METHODS, find_method, method_names
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

PACKAGE = Path(__file__).parents[2] / "examples" / "method-package"
CALIBRATION = ("--calib-scenes", "2", "--calib-frames", "1", "--group-size", "32")


def announce(folder, monkeypatch, **methods):
    """Put a package's metadata where Python looks for installed ones."""
    about = folder / "someones_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-package\nVersion: 1.0\n")
    lines = "".join(f"{name.replace('_', '-')} = {place}\n" for name, place in methods.items())
    (about / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{lines}")
    monkeypatch.syspath_prepend(folder)


@pytest.fixture
def in_turns(tmp_path, monkeypatch):
    """Make the example package visible, by what its pyproject.toml says, and return its module."""
    text = (PACKAGE / "pyproject.toml").read_text()
    section = text.partition(f'[project.entry-points."{ENTRY_POINTS}"]\n')[2].partition("\n\n")[0]
    methods = dict(re.findall(r'^([\w-]+) = "([\w.:]+)"$', section, re.MULTILINE))
    assert methods == {"in-turns": "in_turns:InTurns"}
    monkeypatch.syspath_prepend(PACKAGE / "src")
    announce(tmp_path, monkeypatch, **methods)
    yield importlib.import_module("in_turns")
    sys.modules.pop("in_turns", None)


def test_it_is_listed_behind_ours(in_turns):
    assert method_names() == (*METHODS, "in-turns")
    assert find_method("in-turns") is in_turns.InTurns


def test_it_quantizes_from_the_command_line(in_turns, tmp_path):
    main(["quantize", "seeded:micro", "-o", str(tmp_path / "q"), "--method", "in-turns", *CALIBRATION])
    recipe = json.loads((tmp_path / "q" / "recipe.json").read_text())
    assert recipe["provenance"]["method"] == "in-turns"
    assert hasattr(qvggt.load(tmp_path / "q"), "recipe")


def test_it_is_compared(in_turns, tmp_path, capsys):
    store, figures = tmp_path / "store", tmp_path / "c.json"
    arguments = ("--methods", "rtn", "in-turns", "--scenes", "2", "--frames", "2", *CALIBRATION)
    main(["compare", "seeded:micro", *arguments, "--store", str(store), "--json", str(figures)])
    methods = [row["method"] for row in json.loads(figures.read_text())["rows"]]
    assert methods == ["float", "bfloat16", "rtn", "in-turns"]
    assert "\nin-turns" in capsys.readouterr().out


@pytest.mark.parametrize("symmetric", [True, False])
def test_turns_lower_the_weighted_error(in_turns, symmetric):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 64, generator=generator)
    energy = torch.rand(64, generator=generator) ** 4 + 1e-3
    scheme = Scheme(3, 32, symmetric, scale_rule="mse")

    def loss(quantized):
        return float(((dequantize(quantized) - weight).square() * energy).sum())

    losses = [loss(in_turns.fit_in_turns(weight, energy, scheme, turns=turns)) for turns in (0, 1, 5, 20)]
    assert losses[0] == loss(quantize(weight, scheme))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.97 * losses[0]


def test_inputs_that_carry_nothing_leave_steps_finite(in_turns):
    weight = torch.randn(4, 64)
    weight[0] = 0
    fitted = in_turns.fit_in_turns(weight, torch.zeros(64), Scheme(4, 32))
    assert torch.isfinite(dequantize(fitted)).all()
    assert (dequantize(fitted)[0] == 0).all()


@pytest.mark.parametrize(
    ("place", "words"),
    [("nowhere:Method", "cannot be loaded"), ("json:JSONDecoder", "not a subclass")],
)
def test_what_is_no_method_is_said_in_a_sentence(tmp_path, monkeypatch, place, words):
    announce(tmp_path, monkeypatch, broken=place)
    with pytest.raises(QvggtError, match=words):
        find_method("broken")
