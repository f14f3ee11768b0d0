"""``qvggt bench``."""

import json

import pytest

from qvggt.bench.worker import measure


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Measure here: tests/bench has a process of its own."""
    monkeypatch.setattr("qvggt.bench.run.run_in_process", measure)


@pytest.mark.render
def test_bench__table_json_and_profile(qvggt, tmp_path):
    figures, picture = tmp_path / "b.json", tmp_path / "b.png"
    arguments = ("--against", "nano", "--size", "28", "--repeats", "1", "--threads", "1", "--compute", "float")
    done = qvggt("bench", "nano-hard", *arguments, "--json", figures, "--profile", picture)
    assert done.status == 0
    assert "nano-hard" in done.out
    assert "faster" in done.out
    values = json.loads(figures.read_text())
    assert [row["model"] for row in values["rows"]] == ["nano", "nano-hard"]
    assert values["ratios"][0]["speedup"] > 0
    assert values["environment"]["threads"] == 1
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nano", "--profile", "x.jpg"), ".png"),
        (("nano", "--repeats", "0"), "must all be at least 1"),
        (("no-such-model", "--against", "nano"), "no-such-model"),
        (("nano-hard", "--against", "nano", "--size", "30", "--threads", "1"), "patches of 14 px"),
    ],
)
def test_bench__what_cannot_be_measured_is_refused(qvggt, arguments, words):
    done = qvggt("bench", *arguments)
    assert done.status == 1
    assert words in done.err
