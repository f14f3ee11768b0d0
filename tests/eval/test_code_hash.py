"""Kept results are keyed by the code that the verb reaches, and by nothing else."""

import shutil
from functools import lru_cache
from pathlib import Path

import pytest

import qvggt
from qvggt.eval.code_hash import _imported, code_hash, reached_files

PACKAGE = Path(qvggt.__file__).parent
FIGURES, BYTES = "qvggt.api.evaluate", "qvggt.api.quantize"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Return a copy of the package whose files a test may change."""
    folder = tmp_path_factory.mktemp("code") / "qvggt"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "*.jpg"))
    imported = lru_cache(None)(lambda path, package: list(_imported(path, package)))  # no test changes what is imported
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qvggt.eval.code_hash._imported", imported)
        yield folder


def hash_after_change(copy, module, files):
    """Return the hash while some files have another byte at their end."""
    before = {name: (copy / name).read_bytes() for name in files}
    for name, text in before.items():
        (copy / name).write_bytes(text + b"\n")
    code_hash.cache_clear()
    try:
        return code_hash(module, copy)
    finally:
        for name, text in before.items():
            (copy / name).write_bytes(text)
        code_hash.cache_clear()


def names(module):
    return {path.relative_to(PACKAGE).as_posix() for path in reached_files(module)}


@pytest.mark.parametrize("module", [FIGURES, BYTES])
def test_code_hash_changes_with_every_file_that_is_reached_and_with_no_other(copy, module):
    sources = [path for path in copy.rglob("*.*") if path.suffix in (".py", ".c", ".h")]
    known, reached = code_hash(module, copy), names(module)
    others = {path.relative_to(copy).as_posix() for path in sources} - reached
    assert others
    assert hash_after_change(copy, module, others) == known
    for name in ["__init__.py", "types.py", "quant/affine.py", "backends/native/products.c", "data/rooms/render.py"]:
        assert name in reached
        assert hash_after_change(copy, module, [name]) != known, name


def test_reached_files_of_an_evaluation_are_what_its_figures_depend_on():
    reached = names(FIGURES)
    assert {"model/vggt.py", "eval/metrics/pose.py", "data/rooms/render.py", "backends/native/attention.c"} <= reached
    assert not [name for name in reached if name.startswith(("cli/", "train/", "bench/", "methods/"))]


def test_reached_files_of_a_quantization_are_what_its_bytes_depend_on():
    reached = names(BYTES)
    assert {"methods/gptq.py", "methods/tune.py", "quant/packing.py", "checkpoint/folder.py"} <= reached
    assert not [name for name in reached if name.startswith(("cli/", "plots/", "train/"))]


def test_reached_files_follow_every_form_of_import(tmp_path):
    package = tmp_path / "pack"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pack.typed\n")
    (package / "typed.py").write_text("")
    (package / "unused.py").write_text("")
    (package / "start.py").write_text("def later():\n    from pack import named\n    from .room.relative import x\n")
    (package / "named.py").write_text("import json, pack.plain\n")
    (package / "plain.py").write_text("")
    (package / "room" / "__init__.py").write_text("")
    (package / "room" / "relative.py").write_text("from ..named import y\n")
    (package / "room" / "fast.c").write_text("")
    found = [path.relative_to(package).as_posix() for path in reached_files("pack.start", package)]
    expected = [
        "__init__.py",
        "named.py",
        "plain.py",
        "room/__init__.py",
        "room/fast.c",
        "room/relative.py",
        "start.py",
    ]
    assert found == expected


def test_reached_files_refuse_a_module_that_is_not_there():
    with pytest.raises(ValueError, match="no module"):
        reached_files("qvggt.moved_away")
