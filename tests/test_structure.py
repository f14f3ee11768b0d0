"""The budgets and arrows that keep the code easy to live in."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "qvggt"
FILES = sorted(SOURCE.rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))

# What each part may import of ours, besides itself. A file directly in the package is a part of its own.
ALLOWED = {
    "types": set(),
    "files": {"types"},
    "quant": {"types"},
    "backends": {"files", "quant", "types"},
    "geometry": set(),
    "images": {"types"},
    "data": {"files", "geometry", "images", "types"},
    "model": {"types"},
    "nn": {"backends", "model", "quant", "types"},
    "calibration": {"data", "files", "geometry", "images", "model", "nn", "quant", "types"},
    "checkpoint": {"backends", "files", "model", "nn", "quant", "types"},
    "weights": {"model", "types"},
    "inference": {"backends", "checkpoint", "geometry", "model", "nn", "types", "weights"},
    "eval": {"backends", "data", "files", "geometry", "images", "inference", "model", "types"},
    "export": {"files", "geometry", "types"},
    "methods": {"calibration", "model", "nn", "quant", "types"},
    "api": {"backends", "calibration", "checkpoint", "data", "eval", "export", "files", "geometry", "images",
            "inference", "methods", "model", "nn", "quant", "types", "weights"},
    "__init__": {"api", "calibration", "eval", "export", "methods", "quant", "types"},
    "__main__": {"cli"},
    "bench": {"api", "backends", "inference", "model", "types"},
    "plots": {"api", "bench", "calibration", "eval", "export", "quant", "types"},
    "stages": set(),
    "train": {"data", "eval", "files", "geometry", "model", "types", "weights"},
    "version": set(),
}  # fmt: skip


def part_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> set[str]:
    """Return the parts of qvggt that a file imports."""
    package = ("qvggt", *path.relative_to(SOURCE).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(name for name in (base, node.module) if name)
            names = [f"qvggt.{a.name}" for a in node.names] if module == "qvggt" else [module]
        else:
            continue
        for name in names:
            if name == "qvggt" or name.startswith("qvggt."):
                rest = name.split(".")[1:]
                known = rest and ((SOURCE / rest[0]).is_dir() or (SOURCE / f"{rest[0]}.py").exists())
                found.add(rest[0] if known else "__init__")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_one_way(path):
    part = part_of(path)
    if part == "cli":
        return
    assert imports(path) - ALLOWED[part] - {part, "version"} == set()


@pytest.mark.parametrize("path", [*FILES, *BENCHMARKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


def test_import_is_free():
    script = "import sys, qvggt; print(sorted({'torch', 'numpy', 'PIL', 'matplotlib', 'tyro'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_public_name_exists():
    import qvggt

    assert all(getattr(qvggt, name) is not None for name in qvggt.__all__)


def test_readme_commands_exist():
    commands = set(re.findall(r"^qvggt ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    from qvggt.cli import COMMANDS

    assert commands <= set(COMMANDS)
