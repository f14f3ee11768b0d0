"""What the page about rooms says can be run, and its table is where the script renews it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qvggt.data.rooms.family import SPLITS

pytestmark = pytest.mark.render

PAGE = Path(__file__).parents[3] / "docs" / "rooms.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL), ids=["tensors", "files"])
def test_snippets_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(PAGE), "exec"), {})


def test_splits_are_those_of_the_code():
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| ([0-9⁰-⁹]+) \|", TEXT, re.MULTILINE))
    assert set(rows) == set(SPLITS)
    assert all(int(rooms) == SPLITS[name].scenes for name, rooms in rows.items() if name != "train")


def test_pictures_are_there_and_the_table_has_its_markers():
    for name in re.findall(r"\]\((images/[^)]+)\)", TEXT):
        assert (PAGE.parent / name).stat().st_size < 500_000
    assert TEXT.count("<!-- percentiles -->\n|") == TEXT.count("|\n<!-- /percentiles -->") == 1
