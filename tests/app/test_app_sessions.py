"""Temporary files of the app: per visitor, at exit, and after a kill."""

import subprocess
import sys
import time

import pytest

from qvggt.app.web.sessions import Sessions, own_folder


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(tmp_path, clock):
    return Sessions(tmp_path, idle_seconds=100, closed_seconds=10, clock=clock)


def test_visits_of_a_page_share_a_private_folder(sessions, tmp_path):
    first, second = sessions.visit("a"), sessions.visit("b")
    assert sessions.visit("a") is first
    assert first.folder.parent == second.folder.parent == tmp_path
    assert len({first.folder.name, second.folder.name}) == 2
    assert len(first.folder.name) == 32


def test_files_of_who_is_idle_are_removed(sessions, clock, tmp_path):
    kept, left = sessions.visit("kept"), sessions.visit("left", [tmp_path / "a.jpg", tmp_path / "both.jpg"])
    for name in ("a.jpg", "both.jpg"):
        (tmp_path / name).touch()
    clock.now = 60
    sessions.visit("kept", [tmp_path / "both.jpg"])
    clock.now = 110
    sessions.sweep()
    assert kept.folder.exists()
    assert not left.folder.exists()
    assert left.stopped.is_set()
    assert not (tmp_path / "a.jpg").exists()
    assert (tmp_path / "both.jpg").exists()
    assert sessions.visit("left") is not left


def test_a_closed_page_is_stopped_and_may_come_back(sessions, clock):
    session = sessions.visit("a")
    sessions.close("a")
    assert session.stopped.is_set()
    clock.now = 5
    sessions.sweep()
    assert sessions.visit("a") is session
    sessions.close("a")
    clock.now = 20
    sessions.sweep()
    assert not session.folder.exists()
    sessions.close("unknown")


def test_sweeping_removes_files_and_stops_work_at_the_end(tmp_path):
    sessions = Sessions(tmp_path, idle_seconds=0.0)
    with sessions.sweeping(0.01):
        gone = sessions.visit("a").folder
        end = time.monotonic() + 10
        while gone.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        last = Sessions.visit(sessions, "b")
    assert last.stopped.is_set()


def test_the_folder_is_private_and_removed_at_exit(tmp_path):
    with own_folder(tmp_path) as folder:
        (folder / "file").touch()
        assert folder.stat().st_mode & 0o077 == 0
        with own_folder(tmp_path) as other:
            assert folder.exists()
            assert other != folder
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_what_a_killed_process_left_is_removed(tmp_path):
    program = (
        "import sys, pathlib, time; from qvggt.app.web.sessions import own_folder\n"
        "with own_folder(pathlib.Path(sys.argv[1])) as f: (f / 'a').touch(); print(f, flush=True); time.sleep(60)"
    )
    running = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    left = running.stdout.readline().strip()
    with own_folder(tmp_path):
        assert left in map(str, tmp_path.iterdir())  # its owner lives
    running.kill()
    running.communicate()
    with own_folder(tmp_path) as folder:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder]
