"""Every notebook runs from top to bottom, and is stored with its outputs."""

from pathlib import Path

import nbformat
import pytest
from make_notebooks import executed

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))


@pytest.mark.process
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_holds_its_outputs(path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for stored, cell in zip(nbformat.read(path, as_version=4).cells, executed(path).cells, strict=True):
        kinds = [[output.output_type for output in each.get("outputs", ())] for each in (stored, cell)]
        assert kinds[0] == kinds[1]
