import errno
import json
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.files import explain, make_folder, new_file, new_folder, write_json
from qvggt.types import QvggtError


def make(folder, overwrite=False):
    with new_folder(folder, ["a"], overwrite) as temporary:
        (temporary / "a").write_text("new")


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with new_folder(tmp_path / "x", ["a"]) as temporary:
        (temporary / "a").write_text("new")
        assert not (tmp_path / "x").exists()
        assert temporary.parent == tmp_path
    assert (tmp_path / "x" / "a").read_text() == "new"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o777 & ~umask


def test_names_with_spaces_newlines_and_other_letters(tmp_path):
    make(tmp_path / "ein Haus\nam Züri-See 家")
    assert (tmp_path / "ein Haus\nam Züri-See 家" / "a").exists()


def test_an_empty_folder_may_be_filled(tmp_path):
    make(tmp_path)
    assert (tmp_path / "a").exists()


def test_a_folder_with_foreign_files_is_never_replaced(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(QvggtError, match=r"other files too \('thesis\.tex' for one\)"):
        make(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    make(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").exists()


def test_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    for folder in (tmp_path / "x", tmp_path / "x" / "deep"):
        with pytest.raises(QvggtError, match=r"in a circle|a broken link"):
            make(folder)


def test_files_in_the_way_are_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(QvggtError, match="is a file: give the name of a folder"):
        make(tmp_path / "file", overwrite=True)
    with pytest.raises(QvggtError, match="a part of that path is a file"):
        make(tmp_path / "file" / "deep")
    with pytest.raises(QvggtError, match="is a folder: give the name of a file"), new_file(tmp_path):
        pass


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
    with pytest.raises(QvggtError, match=reason):
        make(tmp_path / "new" / "x")
    with pytest.raises(QvggtError, match=reason), new_file(tmp_path / "y") as temporary:
        temporary.write_text("new")
    assert not list(tmp_path.iterdir())


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    make(tmp_path / "x")
    (tmp_path / "x" / "a").write_text("old")
    rename = os.rename

    def refuse(source, target, **kwargs):
        if str(source).endswith(".tmp"):
            raise OSError(errno.EIO, "no")
        rename(source, target, **kwargs)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(QvggtError):
        make(tmp_path / "x", overwrite=True)
    assert (tmp_path / "x" / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


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
