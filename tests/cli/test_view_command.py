"""``qvggt view`` and ``reconstruct --view`` as commands."""

import signal
import urllib.request
from dataclasses import replace

import pytest
from commands import MODEL, process

from qvggt.export.result import ResultInfo, save_result


@pytest.mark.process
def test_view_serves_until_it_is_interrupted(room, tmp_path):
    pytest.importorskip("viser")
    save_result(room, ResultInfo(), tmp_path)
    running = process("view", tmp_path, "--port", "8720")
    try:
        line = running.stdout.readline()
        assert "shows the scene" in line
        assert urllib.request.urlopen(line.split()[0], timeout=60).status == 200
    finally:
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (0, "", "")


def test_view_says_what_it_cannot_show(refused, room, tmp_path_factory):
    pytest.importorskip("viser")
    folder = tmp_path_factory.mktemp("results")
    save_result(replace(room, depth=None, world_points=None), ResultInfo(), folder)
    assert "no depth" in refused("view", folder, "--port", 8740)
    assert "one result, or two" in refused("view", folder, folder, folder)
    assert "--heads camera depth" in refused("view", folder, folder)


def test_reconstruct_does_not_view_within_a_memory_limit(refused, photos, tmp_path):
    assert "--view needs memory" in refused(
        "reconstruct", MODEL, photos, "-o", tmp_path / "out", "--view", "--memory", "4GB"
    )
