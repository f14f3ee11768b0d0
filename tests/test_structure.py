"""The budgets and arrows that keep the code easy to live in."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "qvggt"
FILES = sorted(SOURCE.rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))

ROOMS = (
    "__main__", "cli", "app", "plots", "bench", "train", "__init__", "api", "methods", "eval", "calibration", "export",
    "inference", "checkpoint", "data", "weights", "nn", "backends", "model", "images", "options", "quant", "files",
    "geometry", "types", "version",
)  # fmt: skip
"""Top to bottom: a room imports only rooms to its right. A file directly in the package is a room of its own."""

ONLY = {
    "model": {"geometry", "options", "types"},
    "quant": {"types"},
    "backends": {"files", "options", "quant", "types"},
    "export": {"files", "geometry", "images", "options", "types"},
    "images": {"files", "options", "types"},
}
"""Rooms that know still less: architecture without quantization, numerics without modules, files without a model."""


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """Return the rooms that a file imports."""
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


def test_every_room_has_its_place():
    assert {room_of(path) for path in FILES} <= set(ROOMS)


def test_imports_run_one_way():
    wrong = []
    for path in FILES:
        room = room_of(path)
        allowed = ONLY.get(room, set(ROOMS[ROOMS.index(room) + 1 :]))
        wrong += [f"{path.relative_to(SOURCE)} imports {name}" for name in imports(path) - allowed - {room, "version"}]
    assert not wrong


def test_files_and_functions_stay_short():
    long = []
    for path in [*FILES, *BENCHMARKS]:
        text = path.read_text()
        if len(text.splitlines()) > 400:
            long.append(f"{path.relative_to(ROOT)} has more than 400 lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60:
                long.append(f"{path.relative_to(ROOT)}: {node.name} has more than 60 lines")
    assert not long


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
