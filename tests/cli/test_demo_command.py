"""``qvggt demo``: what it prints is what the README shows, but for figures."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def without_figures(text):
    return re.sub(r"\d+(\.\d+)?", "#", text).splitlines()


@pytest.mark.render
def test_the_demo_prints_what_the_readme_shows(qvggt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = qvggt("demo")
    shown = re.search(r"<!-- demo -->\n```\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert without_figures(done.out) == without_figures(shown)
    assert Path(done.out.splitlines()[-1]).stat().st_size < 2_000_000
