import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.export.files import atomic_path, make_folder, write_json
from qvggt.types import QvggtError


def test_a_file_written_well_takes_its_name_and_leaves_no_other(tmp_path):
    with atomic_path(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"new")
        assert temporary.suffix == ".bin"
        assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_keeps_what_was_there(tmp_path, stop):
    (tmp_path / "a.bin").write_bytes(b"old")

    def interrupted():
        with atomic_path(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(b"half")
            raise stop

    with pytest.raises(stop):
        interrupted()
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission"), (errno.EIO, "error")],
)
def test_errors_of_the_system_become_one_sentence(tmp_path, code, words):
    def failing():
        with atomic_path(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(code, os.strerror(code))

    with pytest.raises(QvggtError, match=words) as caught:
        failing()
    assert str(caught.value).count("\n") == 0
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(QvggtError, match=r"taken.*in the way"):
        make_folder(tmp_path / "taken")
    with pytest.raises(QvggtError, match="is a file, not a folder"):
        make_folder(tmp_path / "taken" / "below")
    with pytest.raises(QvggtError), atomic_path(tmp_path / "taken" / "a.bin") as temporary:
        temporary.write_bytes(b"x")


def test_a_missing_folder_and_a_folder_in_the_way_are_named(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(QvggtError, match="does not exist"):
        write_json(tmp_path / "absent" / "a.json", {})
    with pytest.raises(QvggtError, match="folder of this name"):
        write_json(tmp_path / "folder", {})
    assert os.listdir(tmp_path) == ["folder"]


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
