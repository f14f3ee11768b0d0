import importlib
import os
import shutil
import subprocess

import pytest
from commands import MODEL, Done, contents, draw

from qvggt.cli import main


@pytest.fixture
def full_pictures():
    """Ask for overviews as a user gets them."""


@pytest.fixture(autouse=True)
def small_pictures(request, monkeypatch):
    """Draw overviews with few pixels, for most of a command's time would go into them, where nobody looks at them."""
    if "full_pictures" in request.fixturenames:
        return
    for module in ("export.sheet", "export.scene_views", "export.overview", "postprocess.overview_layout"):
        monkeypatch.setattr(importlib.import_module(f"qvggt.{module}"), "DPI", 30)  # qvggt.export is a function


@pytest.fixture
def qvggt(capsys):
    """Return a function that runs a command in this process."""

    def run(*arguments):
        capsys.readouterr()
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        said = capsys.readouterr()
        return Done(status, said.out, said.err)

    return run


@pytest.fixture
def refused(qvggt, tmp_path):
    """Return a function that runs a command which must fail, checks that nothing changed, and returns its sentence."""

    def run(*arguments, within=tmp_path):
        before = contents(within)
        done = qvggt(*arguments)
        assert contents(within) == before
        return done.sentence

    return run


@pytest.fixture
def photos(tmp_path):
    """Return a folder with two photographs."""
    for index in range(2):
        draw(tmp_path / "photos" / f"p{index}.jpg", index)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def intact_checkpoint(tmp_path_factory):
    """Return a quantized checkpoint that is only read."""
    folder = tmp_path_factory.mktemp("quantized") / "micro"
    main(["quantize", MODEL, "-o", str(folder), "--group-size", "32"])
    return folder


@pytest.fixture
def checkpoint(intact_checkpoint, tmp_path):
    """Return a checkpoint that a test may damage."""
    return shutil.copytree(intact_checkpoint, tmp_path / "checkpoint")


@pytest.fixture
def mounted(tmp_path):
    """Return a function that mounts an empty file system of its own; skips where only an administrator may."""
    places = []

    def mount(name, options):
        place = tmp_path / name
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a file system of its own takes an administrator")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def read_only(tmp_path, request):
    """Return a folder in which nothing can be written."""
    if os.geteuid() == 0:  # an administrator is stopped by no permission
        return request.getfixturevalue("mounted")("read-only", "ro")
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    return folder
