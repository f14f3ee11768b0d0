import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.files import explain, make_folder, new_file, new_folder, new_output, write, write_json
from qvggt.types import QvggtError


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission is denied"),
        (errno.EIO, "the system says Input/output error"),
    ],
)
def test_what_the_system_refuses_is_explained_and_leaves_nothing(tmp_path, monkeypatch, code, reason):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(QvggtError, match=reason), new_folder(tmp_path / "new" / "x", ["a"]) as staging:
        (staging / "a").write_text("new")
    with pytest.raises(QvggtError, match=reason), new_file(tmp_path / "y") as temporary:
        temporary.write_text("new")
    assert not list(tmp_path.iterdir())


def test_files_appear_when_complete_and_are_kept_unless_overwriting(tmp_path):
    path = tmp_path / "x"
    with new_file(path) as temporary:
        temporary.write_text("1")
        assert not path.exists()
    with pytest.raises(QvggtError, match="exists already"), new_file(path):
        pass
    with pytest.raises(KeyboardInterrupt), new_file(path, overwrite=True) as temporary:
        interrupted_write(temporary)
    assert path.read_text() == "1"
    with new_file(path, overwrite=True) as temporary:
        temporary.write_text("3")
    assert path.read_text() == "3"
    assert list(tmp_path.iterdir()) == [path]


def interrupted_write(path):
    path.write_text("2")
    raise KeyboardInterrupt


def test_explanations_are_one_sentence():
    for code in errno.errorcode:
        text = str(explain(OSError(code, os.strerror(code)), "x", "write"))
        assert text.startswith("cannot write x: ")
        assert not text.endswith(".")


def test_a_file_in_the_way_of_a_made_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("x")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(QvggtError, match="is a file"):
            make_folder(folder)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(value=_values)
def test_json_reads_back_equal(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


def test_json_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="has no such pipes")
@pytest.mark.parametrize("name", ["pipe", "link"])
def test_what_is_no_file_stays_and_takes_what_is_written(name, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as team:
        read = team.submit((tmp_path / "pipe").read_text)
        write_json(tmp_path / name, [1, 2])
        assert json.loads(read.result()) == [1, 2]
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(QvggtError, match="a device or a pipe"), new_output(tmp_path / name, overwrite=True):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link"}


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="has no device that is full")
def test_a_device_that_is_full_is_one_sentence(tmp_path):
    (tmp_path / "link").symlink_to("/dev/full")
    with pytest.raises(QvggtError, match="the disk is full"):
        write_json(tmp_path / "link", list(range(10_000)))
    assert Path("/dev/full").is_char_device()


def test_what_a_killed_process_was_writing_goes_with_the_next_file(tmp_path):
    write._remove_temporaries.cache_clear()
    machine, process = write._machine(), write._PROCESS
    killed = subprocess.Popen(["true"])
    killed.wait()
    kept = [
        "mine",
        ".qvggt-manifest.json",
        f".qvggt-{machine}-notes.json",
        f".qvggt-{machine}-{os.getpid()}-{process}-00000000.json",  # of another thread
        f".qvggt-{machine}-{os.getppid()}-0123abcd-00000000.json",  # of a process that runs
        f".qvggt-ffffffff-{killed.pid}-0123abcd-00000000.json",  # of another machine
    ]
    gone = [
        f".qvggt-{machine}-{killed.pid}-0123abcd-00000000.json",
        f".qvggt-{machine}-{os.getpid()}-0123abcd-00000000.pt",  # the number of a process came again
    ]
    for name in (*kept, *gone):
        (tmp_path / name).write_text("x")
    write_json(tmp_path / "a.json", 1)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "a.json"}


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_a_process_that_is_killed_while_it_writes_a_file_leaves_nothing_for_ever(tmp_path):
    write._remove_temporaries.cache_clear()
    code = """
import os, signal, sys
from qvggt.files import new_file
with new_file(sys.argv[1]) as temporary:
    temporary.write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.json")], check=False, env=environment)
    assert [path.name[:7] for path in tmp_path.iterdir()] == [".qvggt-"]
    write_json(tmp_path / "a.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
