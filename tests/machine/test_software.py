from importlib import metadata

import pytest
import torch

from qvggt.machine import software
from qvggt.machine.software import Package, read_extras, read_software


@pytest.fixture
def declared(monkeypatch):
    """Return a function that sets what the package's metadata declares, and what is installed."""

    def declare(extras, requirements, installed):
        about = metadata.metadata("pytest")
        monkeypatch.setattr(about, "get_all", lambda name: extras)
        monkeypatch.setattr(software.metadata, "metadata", lambda name: about)
        monkeypatch.setattr(software.metadata, "requires", lambda name: requirements)

        def version(name):
            if name not in installed:
                raise metadata.PackageNotFoundError(name)
            return installed[name]

        monkeypatch.setattr(software.metadata, "version", version)

    return declare


def test_read_software():
    found = read_software()
    assert found.torch == torch.__version__
    assert found.torch_build.startswith(("CPU", "CUDA", "ROCm"))
    assert bool(found.compiler) == bool(found.compiler_version)


def test_read_software__without_a_compiler(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    found = read_software()
    assert (found.compiler, found.compiler_version) == ("", "")


def test_read_software__a_compiler_that_does_not_run(monkeypatch, tmp_path):
    (tmp_path / "cc").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    assert "does not run" in read_software().compiler_version


def test_read_extras__says_what_is_installed_missing_and_too_old(declared):
    declared(
        ["video", "viewer"],
        ["numpy>=1", 'av>=14.1; extra == "video"', 'viser>=1.1; extra == "viewer"', 'gone>=1; extra == "viewer"'],
        {"numpy": "2.0", "av": "18.0", "viser": "1.0"},
    )
    video, viewer = read_extras()
    assert (video.installed, video.packages) == (True, (Package("av", ">=14.1", "18.0", fits=True),))
    assert not viewer.installed
    assert viewer.install == 'pip install "qvggt[viewer]"'
    assert [(each.name, each.version, each.fits) for each in viewer.packages] == [
        ("viser", "1.0", False), ("gone", None, False),
    ]  # fmt: skip


def test_read_extras__other_systems_packages_are_not_needed(declared):
    declared(["fast"], ['triton; extra == "fast" and sys_platform == "no-such-system"', "what is this"], {})
    (fast,) = read_extras()
    assert (fast.installed, fast.packages) == (True, ())


def test_read_extras__an_extra_of_extras(declared):
    declared(
        ["all", "video"],
        ['av>=14; extra == "video"', 'qvggt[video]; extra == "all"', 'ruff; extra == "all"'],
        {"av": "18.0", "ruff": "1.0"},
    )
    assert [package.name for package in read_extras()[0].packages] == ["av", "ruff"]


def test_read_extras__of_source_without_metadata(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(software.metadata, "metadata", missing)
    assert read_extras() == ()
