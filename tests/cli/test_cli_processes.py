"""Signals, terminals and redirected output: what only a process of its own can show."""

import os
import pty
import re
import signal
import time

import pytest
from commands import MODEL, contents, finish, process

pytestmark = pytest.mark.process

# Long enough that a signal comes in the middle.
SLOW = "seeded:nano"


def wait_for_work(folder, running):
    """Wait until a command has begun to write."""
    deadline = time.monotonic() + 60
    while not any("qvggt-staging" in path.name for path in folder.rglob("*")):
        assert running.poll() is None, finish(running)
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("command", "signals", "status", "word"),
    [
        ("reconstruct", [signal.SIGINT], 130, "interrupted"),
        pytest.param("quantize", [signal.SIGTERM] * 3, 143, "terminated", marks=pytest.mark.slow),
    ],
    ids=["ctrl-c", "impatient"],
)
def test_clean_stop__a_stopped_command_leaves_nothing_behind(command, photos, tmp_path, signals, status, word):
    slow = {
        "quantize": ["quantize", SLOW, "--scale-rule", "mse"],
        "reconstruct": ["reconstruct", SLOW, *[photos / f"p{index % 2}.jpg" for index in range(100)]],
    }[command]
    before = contents(tmp_path)
    running = process(*slow, "-o", tmp_path / "out")
    wait_for_work(tmp_path, running)
    for number in signals:
        running.send_signal(number)
        time.sleep(0.02)
    done = finish(running)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(f"qvggt: {word}")
    assert done.err.count("\n") == 1
    assert contents(tmp_path) == before


def test_clean_stop__a_stopped_replacement_leaves_the_old_files(qvggt, tmp_path):
    assert qvggt("quantize", MODEL, "-o", tmp_path / "out").status == 0
    before = contents(tmp_path)
    running = process("quantize", SLOW, "--scale-rule", "mse", "-o", tmp_path / "out", "--overwrite")
    wait_for_work(tmp_path, running)
    running.send_signal(signal.SIGINT)
    assert finish(running).status == 130
    assert contents(tmp_path) == before


def on_a_terminal(*arguments):
    """Run a command whose standard error is a terminal; return its status and what the terminal got."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    for name in ("NO_COLOR", "CI", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        environment.pop(name, None)
    running = process(*arguments, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    finish(running)
    return running.returncode, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_progress__a_terminal_shows_it_and_a_file_does_not(qvggt, photos, tmp_path):
    images = [photos / f"p{index % 2}.jpg" for index in range(24)]
    status, shown = on_a_terminal("reconstruct", SLOW, *images, "-o", tmp_path / "a")
    assert status == 0
    assert re.search(r"seeded:nano: 24 frames, (patch embedding|attention|depth maps) .* % +\d:\d\d:\d\d left", shown)
    assert "writing files" in shown
    done = qvggt("reconstruct", MODEL, *images[:2], "-o", tmp_path / "b", "--heads", "camera")
    assert done.status == 0
    assert done.err.startswith("qvggt: ")
    assert done.err.count("\n") == 1
    assert "points.ply" in done.err
    assert "2 frames" in done.out
