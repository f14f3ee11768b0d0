"""Output folders are filled, never replaced, and whole after a kill at any moment."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from qvggt.files import check_folder, check_space, finish_folder, lock_folder, new_file, new_folder
from qvggt.files.folder import JOURNAL, MANIFEST
from qvggt.types import QvggtError

CONTENTS = ("a", "depth/")


def make(folder, text="new", overwrite=False, frames=2):
    with new_folder(folder, CONTENTS, overwrite) as staging:
        (staging / "a").write_text(text)
        (staging / "depth").mkdir()
        for frame in range(frames):
            (staging / "depth" / str(frame)).write_text(text)


def files(folder):
    """Return the text of every file below a folder but the manifest, by name."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(found)}


OLD = {"a": "old", "depth/0": "old", "depth/1": "old", "depth/2": "old"}
NEW = {"a": "new", "depth/0": "new", "depth/1": "new"}


@pytest.fixture
def old(tmp_path):
    """Return a folder with an earlier result of three frames."""
    make(tmp_path / "out", "old", frames=3)
    assert files(tmp_path / "out") == OLD
    return tmp_path / "out"


def test_new_folder_appears_when_it_is_complete(tmp_path):
    with new_folder(tmp_path / "x", ["a"]) as staging:
        (staging / "a").write_text("new")
        assert not (tmp_path / "x").exists()
    assert files(tmp_path) == {"x/a": "new"}
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o777 & ~umask


def test_new_folder_takes_names_with_spaces_newlines_and_other_letters(tmp_path):
    make(tmp_path / "ein Haus\nam Züri-See [家]*")
    assert files(tmp_path / "ein Haus\nam Züri-See [家]*") == NEW


def test_new_folder_fills_an_empty_folder_and_keeps_it(tmp_path, monkeypatch):
    (tmp_path / "x").mkdir(mode=0o750)
    (tmp_path / "x").chmod(0o2750)
    (tmp_path / "x" / ".DS_Store").write_text("system")
    before = (tmp_path / "x").stat()
    monkeypatch.chdir(tmp_path / "x")
    make(".")
    after = (tmp_path / "x").stat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert files(tmp_path / "x") == NEW | {".DS_Store": "system"}
    assert os.getcwd() == str(tmp_path / "x")


def test_new_folder_overwrites_what_the_manifest_lists_and_nothing_else(old):
    (old / "depth" / "mine").write_text("years")
    (old / "thesis").write_text("years")
    with pytest.raises(QvggtError, match="exists already"):
        make(old)
    make(old, overwrite=True)
    assert files(old) == NEW | {"depth/mine": "years", "thesis": "years"}


def test_new_folder_overwrites_a_result_without_a_manifest_by_name(old):
    (old / MANIFEST).unlink()
    make(old, overwrite=True)
    assert files(old) == NEW | {"depth/2": "old"}


def test_new_folder_removes_folders_that_end_up_empty(old):
    with new_folder(old, CONTENTS, overwrite=True) as staging:
        (staging / "a").write_text("new")
    assert files(old) == {"a": "new"}
    assert not (old / "depth").exists()


def test_new_folder_leaves_what_appears_meanwhile(tmp_path):
    def fill(place, name, text):
        with new_folder(place, CONTENTS) as staging:
            (staging / "a").write_text("new")
            place.mkdir(exist_ok=True)
            (place / name).write_text(text)

    for place in (tmp_path / "absent", tmp_path / "empty"):
        fill(place, "note", "mine")
        assert files(place) == {"a": "new", "note": "mine"}
        (tmp_path / "empty").mkdir(exist_ok=True)
    with pytest.raises(QvggtError, match="appeared meanwhile"):
        fill(tmp_path / "other", "a", "mine")
    assert files(tmp_path / "other") == {"a": "mine"}


def test_new_folder_follows_a_link_and_refuses_a_loop(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    make(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert files(tmp_path / "real") == NEW
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    for folder in (tmp_path / "x", tmp_path / "x" / "deep"):
        with pytest.raises(QvggtError, match=r"in a circle|a broken link"):
            make(folder)


def test_new_folder_names_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(QvggtError, match="is a file: give the name of a folder"):
        make(tmp_path / "file", overwrite=True)
    with pytest.raises(QvggtError, match="a part of that path is a file"):
        make(tmp_path / "file" / "deep")
    with pytest.raises(QvggtError, match="is a folder: give the name of a file"), new_file(tmp_path):
        pass
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "depth").write_text("x")
    with pytest.raises(QvggtError, match="depth is a file, and a folder of that name is written"):
        make(tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "depth").rename(tmp_path / "out" / "deep")
    with pytest.raises(QvggtError, match="in its way"), new_folder(tmp_path / "out", (), overwrite=True) as staging:
        shutil.copytree(tmp_path, staging / "deep", ignore=shutil.ignore_patterns("out"))
    (tmp_path / "out" / "deep").rename(tmp_path / "out" / "depth")
    assert files(tmp_path / "out") == {"depth": "x"}


def test_new_folder_refuses_a_second_command(tmp_path, old):
    for place in (tmp_path / "fresh" / "out", old):
        with (
            pytest.raises(QvggtError, match="another command is writing"),
            new_folder(place, CONTENTS, overwrite=True),
            new_folder(place, CONTENTS, overwrite=True),
        ):
            pass
    assert files(tmp_path) == {f"out/{name}": text for name, text in OLD.items()}
    with lock_folder(old), pytest.raises(QvggtError, match="another command"):
        make(old, overwrite=True)


@pytest.mark.parametrize(
    ("refused", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "permission is denied")]
)
def test_a_lock_that_the_system_refuses_is_one_sentence(refused, words, tmp_path, monkeypatch):
    def acquire(self):
        raise OSError(refused, "refused")

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    with pytest.raises(QvggtError, match=words), lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("exists", [True, False])
def test_an_interrupt_as_soon_as_the_staging_folder_exists_leaves_nothing(exists, tmp_path, monkeypatch):
    whole = Path.mkdir

    def mkdir(self, *arguments, **options):
        whole(self, *arguments, **options)
        if "qvggt-staging" in self.name:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    if exists:
        out.mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(KeyboardInterrupt), new_folder(out, CONTENTS, overwrite=True):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def interrupted_write(path):
    path.write_text("new")
    raise KeyboardInterrupt


def test_new_folder_changes_nothing_on_an_exception(tmp_path, old):
    for place in (tmp_path / "deep" / "fresh", old):
        with pytest.raises(KeyboardInterrupt), new_folder(place, CONTENTS, overwrite=True) as staging:
            interrupted_write(staging / "a")
    assert files(tmp_path) == {f"out/{name}": text for name, text in OLD.items()}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


CALLS = ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync", "open")


def make_and_die(folder, moment):
    """Overwrite a folder in a process that dies at its n-th call of the system; return whether it came to its end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = moment

    def dying(call):
        def wrapped(*arguments, **keywords):
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return call(*arguments, **keywords)

        return wrapped

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))
    make(folder, overwrite=True)
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are made by fork")
@pytest.mark.parametrize("before", [OLD, {}], ids=["old", "absent"])
def test_new_folder_is_whole_after_a_kill_at_any_moment(tmp_path, before):
    seen, ended, moment = set(), False, 0
    while not ended:
        out = tmp_path / str(moment) / "out"
        if before:
            make(out, "old", frames=3)
        ended = make_and_die(out, moment)
        unfinished = (out / JOURNAL).exists()
        finish_folder(out)
        now = files(out) if out.exists() else {}
        now = {name: text for name, text in now.items() if not name.startswith(".qvggt-")}
        assert now in (before, NEW)
        seen.add((unfinished, now == NEW))
        make(out, overwrite=True)
        assert files(out) == NEW
        assert [path.name for path in out.parent.iterdir()] == ["out"]
        moment += 1
    assert seen >= ({(False, False), (True, True), (False, True)} if before else {(False, False), (False, True)})


def test_finish_folder_refuses_a_journal_that_is_damaged_or_leads_elsewhere(old):
    for text in ("{", '{"staging": "../..", "files": [], "remove": []}', '{"staging": ".qvggt-staging-1"}'):
        (old / JOURNAL).write_text(text)
        with pytest.raises(QvggtError, match="damaged"):
            finish_folder(old)
    (old / JOURNAL).write_text('{"staging": ".qvggt-staging-1", "files": [], "remove": ["../precious", "a"]}')
    (old.parent / "precious").write_text("years")
    finish_folder(old)
    assert (old.parent / "precious").exists()
    assert not (old / "a").exists()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"staging": ".qvggt-staging-1", "files": "abc", "remove": []}',
        '{"staging": ".qvggt-staging-\\u0000", "files": [], "remove": []}',
        '{"staging": ".qvggt-staging-gone", "files": ["new.txt"], "remove": ["a"]}',
    ],
)
def test_finish_folder_refuses_a_journal_that_would_lose_files(old, text):
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    (old / JOURNAL).write_text(text)
    with pytest.raises(QvggtError, match="damaged"):
        finish_folder(old)
    assert {path: path.read_bytes() for path in before} == before


def test_check_folder_says_what_new_folder_would(old, tmp_path):
    check_folder(tmp_path / "fresh", CONTENTS)
    check_folder(old, CONTENTS, overwrite=True)
    with pytest.raises(QvggtError, match="exists already"):
        check_folder(old, CONTENTS)


@pytest.mark.parametrize(("name", "reason"), [("a", "a is a folder, and a file"), ("depth", "depth is a file, and a")])
def test_check_folder_tells_files_from_folders(tmp_path, name, reason):
    (tmp_path / "a").mkdir() if name == "a" else (tmp_path / "depth").touch()
    with pytest.raises(QvggtError, match=reason):
        check_folder(tmp_path, CONTENTS, overwrite=True)


def test_check_space_compares_with_the_disk(tmp_path):
    check_space(tmp_path / "deep" / "x", 1000)
    with pytest.raises(QvggtError, match=r"the disk is full: .* needs about 1000000000 MB"):
        check_space(tmp_path / "deep" / "x", 10**15)


def test_finish_folder__removes_the_lock_of_a_command_that_was_killed_at_its_end(tmp_path):
    with new_folder(tmp_path / "a", ()) as staging:
        (staging / "x").write_text("x")
    (tmp_path / ".a.qvggt-lock").touch()
    finish_folder(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_result_in_the_current_folder_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in (".", "", "/"):
        finish_folder(place)
