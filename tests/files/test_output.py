import os
import signal
import subprocess
import sys

import pytest

from qvggt.files import new_output
from qvggt.types import QvggtError

KILLED = """
import os, signal, sys
from qvggt.files import new_output
with new_output(sys.argv[1], overwrite=True) as unfinished:
    unfinished.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_what_a_killed_command_left_goes_with_the_next_one(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_text("old")
    assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3
    with new_output(tmp_path / "y.onnx") as other:  # another file's leftovers are not its own
        other.write_text("y")
    assert len(list(tmp_path.iterdir())) == 4
    with new_output(path, overwrite=True) as unfinished:
        unfinished.write_text("new")
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"x.onnx": "new", "y.onnx": "y"}


def test_files_beside_it_come_too_and_nothing_else_stays(tmp_path):
    with new_output(tmp_path / "deep" / "x", others=["x.data"]) as unfinished:
        assert unfinished.name == "x"
        for name in ("x", "x.data", "scratch"):
            unfinished.with_name(name).write_text(name)
    assert {path.name: path.read_text() for path in (tmp_path / "deep").iterdir()} == {"x": "x", "x.data": "x.data"}
    (tmp_path / "deep" / "x").unlink()
    with pytest.raises(QvggtError, match=r"x\.data exists"), new_output(tmp_path / "deep" / "x", others=["x.data"]):
        pass


def interrupted_write(path):
    path.write_text("half")
    raise KeyboardInterrupt


def test_an_exception_leaves_the_old_file_and_no_folders(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_output(tmp_path / "new" / "x") as unfinished:
        interrupted_write(unfinished)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x").mkdir()
    with pytest.raises(QvggtError, match="is a folder"), new_output(tmp_path / "x", overwrite=True):
        pass


def test_a_second_command_that_writes_the_file_is_refused(tmp_path):
    with new_output(tmp_path / "x") as unfinished:
        unfinished.write_text("x")
        with pytest.raises(QvggtError, match="another command is writing"), new_output(tmp_path / "x"):
            pass
        with new_output(tmp_path / "y") as other:
            other.write_text("y")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]
