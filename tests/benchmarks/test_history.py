"""The history of runs: a line a run, and a picture of any number of them."""

import json
import logging

import pytest

import history

ABOUT = {"cpu": "A CPU", "cpu_features": ["avx2", "avx512_vnni"], "threads": 2, "load_before": 0.1}


def run(group, **speedups):
    rows = [{"group": group, "contender": name, "speedup": value} for name, value in speedups.items()]
    return {"environment": ABOUT, "rows": rows}


def test_a_line_has_a_mean_for_every_group_and_contender():
    products = run("products", ours=1.0)
    products["rows"] += [*run("products", ours=4.0)["rows"], {"group": "products", "contender": "b", "reason": "no"}]
    line = history.line_of([products, run("block", ours=1.5)], "abc1234", "2026-01-02T03:04:05+00:00")
    assert line == {
        "commit": "abc1234",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": "A CPU, avx512_vnni, 2 threads",
        "load_before": 0.1,
        "figures": {"products": {"ours": 2.0}, "block": {"ours": 1.5}},
    }


def test_runs_of_several_machines_are_refused():
    other = {**run("block", ours=1.0), "environment": {**ABOUT, "threads": 1}}
    with pytest.raises(ValueError, match="expected runs of one machine, got 2"):
        history.line_of([run("block", ours=1.0), other], "abc", "now")


@pytest.mark.parametrize("count", [1, 3])
def test_runs_are_appended_and_drawn(tmp_path, count):
    figures, lines, picture = tmp_path / "engines.json", tmp_path / "history.jsonl", tmp_path / "history.png"
    figures.write_text(json.dumps(run("block", ours=1.5, theirs=1.2)))
    for _ in range(count):
        history.main([str(figures), "--history", str(lines), "--picture", str(picture)])
    assert len(history.read(lines)) == count
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_line_that_was_cut_off_is_left_out_with_a_warning(tmp_path, caplog):
    path, line = tmp_path / "history.jsonl", history.line_of([run("block", ours=1.5)], "abc", "now")
    history.append(path, line)
    path.write_text(path.read_text() + json.dumps(line)[:40])
    with caplog.at_level(logging.WARNING):
        assert history.read(path) == [line]
    assert "line 2 is cut off" in caplog.text
    history.append(path, line)
    assert history.read(path) == [line, line]


def test_a_contender_may_come_later_and_machines_differ(tmp_path):
    first = history.line_of([run("block", ours=1.5)], "a", "now")
    second = history.line_of([run("block", ours=1.5, theirs=1.2)], "b", "now")
    history.draw([first, second, {**second, "machine": "another"}], tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(ValueError, match="append a run first"):
        history.draw([], tmp_path / "p.png")
