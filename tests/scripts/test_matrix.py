"""The matrix of Pythons: what it keeps, leaves out and reports; no environment is made here."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import matrix
import pytest
from trial import SKIPPED, STEPS

PASSED_ROW = {
    "python": "3.11.7",
    "torch": "2.13.0+cpu",
    "bytes": 1.5e9,
    "wheel": "old",
    "steps": {name: ["passed", 12.4] for name in ("install", *STEPS)},
}


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """Return the versions that were tried, each of which passes in the place of a real trial."""
    calls = []

    def try_python(version, wheel, names, **_):
        calls.append(version)
        return None if version == "3.14" else {name: PASSED_ROW[name] for name in PASSED_ROW if name != "wheel"}

    (tmp_path / "qvggt.whl").write_bytes(b"wheel")
    monkeypatch.setattr(matrix, "FOLDER", tmp_path / "out")
    monkeypatch.setattr(matrix, "distributions", lambda: tmp_path / "qvggt.whl")
    monkeypatch.setattr(matrix, "try_python", try_python)
    return calls


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["matrix.py", *arguments])
    return matrix.main()


def test_a_second_call_tries_what_has_not_passed_with_the_same_wheel(tried, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "--python", "3.11", "3.12", "3.14") == 0
    assert run(monkeypatch, "--python", "3.11", "3.13", "3.14") == 0
    assert tried == ["3.11", "3.12", "3.14", "3.13", "3.14"]
    lines = capsys.readouterr().out.splitlines()[-5:]
    assert [line.split(" | ")[0] for line in lines] == ["| ---", *["| 3.11.7"] * 3, "| 3.14"]
    assert "not found" in lines[-1]

    assert run(monkeypatch, "--python", "3.11", "--again") == 0
    (tmp_path / "qvggt.whl").write_bytes(b"other")
    assert run(monkeypatch, "--python", "3.11") == 0
    assert tried[5:] == ["3.11", "3.11"]
    assert capsys.readouterr().out.splitlines()[-2].startswith("| ---")  # rows of the other wheel are not shown


def test_a_failed_step_fails_the_call_and_is_tried_again(tried, monkeypatch):
    steps = {**PASSED_ROW["steps"], "app": ["timed out", 60.0], "ray": ["skipped", 0.1]}
    matrix.FOLDER.mkdir()
    digest = hashlib.sha256(b"wheel").hexdigest()
    matrix.keep_row("3.12", {**PASSED_ROW, "wheel": digest, "steps": steps})
    monkeypatch.setattr(matrix, "try_python", lambda version, wheel, names, **_: {**PASSED_ROW, "steps": steps})
    assert run(monkeypatch, "--python", "3.12") == 1
    assert json.loads((matrix.FOLDER / "results.json").read_text())["3.12"]["steps"]["app"][0] == "timed out"


def test_keep_row__adds_steps_to_those_of_the_same_wheel(tried):
    matrix.FOLDER.mkdir()
    for wheel, name in (("a", "smoke"), ("a", "demo"), ("b", "app")):
        matrix.keep_row("3.12", {**PASSED_ROW, "wheel": wheel, "steps": {name: ["passed", 1.0]}})
        matrix.keep_row("3.13", {**PASSED_ROW, "wheel": "a", "steps": {name: ["passed", 1.0]}})
    rows = matrix.read_results()
    assert [list(rows[version]["steps"]) for version in ("3.12", "3.13")] == [["app"], ["smoke", "demo", "app"]]
    assert matrix.is_finished(rows["3.13"], "a", ["demo", "app"])
    assert not matrix.is_finished(rows["3.13"], "a", ["demo", "ray"])
    assert not matrix.is_finished(rows["3.12"], "a", ["app"])


def test_table__seconds_of_what_passed_and_words_for_the_rest(tmp_path):
    steps = {"install": ["passed", 31.2], "smoke": ["failed", 3.0], "app": ["skipped", 0.1]}
    lines = matrix.table(["3.10", "3.11"], {"3.11": {**PASSED_ROW, "steps": steps}}).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| 3.10 | not found |")
    assert lines[3].startswith("| 3.11.7 | 2.13.0+cpu | 1.5 | 31 | failed |")
    shown = matrix.table(["3.11"], {"3.11": {**PASSED_ROW, "steps": steps}}, times=False)
    assert shown.splitlines()[2].startswith("| 3.11.7 | 2.13.0+cpu | 1.5 | passed | failed |")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- matrix -->\nold\n<!-- /matrix -->\nafter\n")
    matrix.write_page(page, "new\n")
    assert page.read_text() == "before\n<!-- matrix -->\nnew\n<!-- /matrix -->\nafter\n"


@pytest.mark.parametrize(
    ("code", "outcome"),
    [("", "passed"), ("raise SystemExit(1)", "failed"), (f"raise SystemExit({SKIPPED})", "skipped")],
)
def test_taken__the_outcome_of_a_command(tmp_path, code, outcome):
    with (tmp_path / "log").open("w") as log:
        assert matrix.taken([[sys.executable, "-c", code]], str(tmp_path), log, 60)[0] == outcome


def test_taken__stops_at_the_first_failure_and_hands_no_python_settings_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    code = "import os; open('variables', 'w').write(' '.join(os.environ))"
    with (tmp_path / "log").open("w") as log:
        calls = [[sys.executable, "-c", code], ["no-such-program"], [sys.executable, "-c", "open('never', 'w')"]]
        assert matrix.taken(calls, str(tmp_path), log, 60)[0] == "failed"
    assert "PYTHONPATH" not in (tmp_path / "variables").read_text().split()
    assert not (tmp_path / "never").exists()
    assert "no-such-program" in (tmp_path / "log").read_text()


def test_taken__ends_a_command_that_takes_too_long_with_all_that_it_has_started(tmp_path):
    child = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '600']); open('pid', 'w').write(str(p.pid))"
    with (tmp_path / "log").open("w") as log:
        outcome, _ = matrix.taken([[sys.executable, "-c", f"{child}; time.sleep(600)"]], str(tmp_path), log, 2)
    assert outcome == "timed out"
    if (tmp_path / "pid").exists():  # on a busy machine it may not have come so far
        wait_until_gone(int((tmp_path / "pid").read_text()))


def wait_until_gone(pid):
    status = Path(f"/proc/{pid}/stat")
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if (
            status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"
        ):  # nobody has asked for its status
            return
        time.sleep(0.05)
    raise AssertionError("a child is still there")


def test_find__takes_no_stand_in_of_a_python_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    stand_in = tmp_path / "python3.99"
    stand_in.write_text("#!/bin/sh\nexit 127\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(matrix.shutil, "which", lambda name: str(stand_in) if name == "python3.99" else None)
    assert matrix.find("3.99") is None
    stand_in.write_text("#!/bin/sh\nexit 0\n")
    assert matrix.find("3.99") == str(stand_in)


def test_every_step_says_what_it_shows():
    assert all((step.run.__doc__ or "").strip().endswith(".") for step in STEPS.values())
