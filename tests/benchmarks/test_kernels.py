"""The kernel benchmark on tiny shapes: every contender has a row, and none is fast by being wrong."""

import json

import pytest

import kernels
from qvggt.backends import BACKENDS


def test_every_contender_has_a_row(tmp_path, capsys, threads_restored):
    path = tmp_path / "new" / "kernels.json"
    kernels.main(["--tokens", "70", "--shapes", "64:32", "--repeats", "2", "--threads", "1", "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert [row["contender"] for row in rows] == ["float32", *(each.title for each in kernels.CONTENDERS)]
    measured = {row["contender"]: row for row in rows if "reason" not in row}
    assert measured["float32"]["relative_difference"] == 0
    assert measured["float32"]["speedup"] == 1
    assert 0.01 < measured["cpu, 4 bits"]["relative_difference"] < 0.2
    assert all(row["seconds_least"] <= row["seconds"] <= row["seconds_most"] for row in measured.values())
    assert "70 x 64 -> 32" in capsys.readouterr().out


def test_a_backend_that_cannot_work_is_a_row_with_the_reason(monkeypatch):
    monkeypatch.setattr(type(BACKENDS["cpu-native"]), "unsupported_reason", lambda self, device: "no compiler")
    rows = {row["contender"]: row for row in kernels.measure_shape(70, 64, 32, repeats=1)}
    assert rows["cpu-native, 4 bits"]["reason"] == "no compiler"
    assert "speedup" in rows["cpu, 4 bits"]


@pytest.mark.parametrize(
    "arguments", [["--tokens", "0"], ["--threads", "0"], ["--repeats", "0"], ["--shapes", "64"], ["--shapes", "0:64"]]
)
def test_impossible_options_are_refused(arguments):
    with pytest.raises(SystemExit):
        kernels.main(arguments)
