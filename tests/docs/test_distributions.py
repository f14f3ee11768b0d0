"""What the wheel and the source distribution hold."""

import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

build = pytest.importorskip("hatchling.build")

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "qvggt"
CODE = {
    path.relative_to(ROOT / "src").as_posix()
    for path in SOURCE.rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}


def names_in(path: Path) -> set[str]:
    if path.suffix == ".whl":
        return set(zipfile.ZipFile(path).namelist())
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return folder / build.build_wheel(str(folder))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Return the source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return folder / build.build_sdist(str(folder))


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = names_in(wheel)
    assert {name for name in names if ".dist-info/" not in name} == CODE
    assert {"qvggt/py.typed", "qvggt/weights/pretrained/nano.safetensors"} <= names
    licenses = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licenses == {"LICENSE", "NOTICE"}


OUTSIDE = {".ci", ".dockerignore", ".github", "Dockerfile", "compose.yaml", "training"}
"""What only a clone has: workflows, containers, and weights on the way."""


def test_the_source_distribution_holds_what_its_tests_need_and_no_more(sdist):
    names = names_in(sdist)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not in a git repository")
    assert {"pyproject.toml", "README.md", "CITATION.cff", "Makefile", "tests/golden/tiny.safetensors"} <= names
    assert {name for name in names if name.startswith("src/")} >= {f"src/{name}" for name in CODE}
    left_out = {name for name in tracked if name not in names}
    assert {name.partition("/")[0] for name in left_out} <= OUTSIDE
    assert not [name for name in names if re.search(r"__pycache__|\.egg-info|^out/|^\.venv", name)]


def test_the_metadata_shows_where_the_project_lives(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    assert "Project-URL: Repository, https://github.com/qvggt/qvggt\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Description-Content-Type: text/markdown\n" in metadata
