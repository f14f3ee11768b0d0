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
    "__main__", "cli", "app", "plots", "bench", "train", "__init__", "api", "machine", "methods", "eval", "calibration",
    "export", "inference", "postprocess", "onnx", "checkpoint", "data", "weights", "nn", "backends", "model", "images",
    "options", "quant", "files", "geometry", "types", "version",
)  # fmt: skip
"""Top to bottom: a room imports only rooms to its right. A file directly in the package is a room of its own."""

ONLY = {
    "model": {"geometry", "options", "types"},
    "quant": {"types"},
    "backends": {"files", "options", "quant", "types"},
    "onnx": {"model", "nn", "options", "quant", "types"},
    "export": {"files", "geometry", "images", "options", "postprocess", "types"},
    "postprocess": {"files", "geometry", "images", "options", "types"},
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


def own_functions(tree: ast.AST) -> dict[str, bool]:
    """Return the names that a file defines, and whether each takes any number of positional arguments."""
    functions = {
        node.name: node.args.vararg is not None for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }
    return functions | {node.name: False for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Return every name that a file imports, with the name of what it stands for, empty if it is another library's."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            ours = (node.module or "").split(".")[0] in {"qvggt", *(path.stem for path in BENCHMARKS)}
            names |= {alias.asname or alias.name: alias.name if ours else "" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0]: "" for alias in node.names}
    return names


def called(function: ast.expr, own: dict[str, bool], imported: dict[str, str]) -> str | None:
    """Return the name of the function of ours that a call names, or None: a library's, or one that cannot be told."""
    if isinstance(function, ast.Name):
        name = imported.get(function.id, function.id)
        return name if name in own or name == "cls" else None
    root = function
    while isinstance(root, ast.Attribute):
        root = root.value
    if not isinstance(function, ast.Attribute) or not isinstance(root, ast.Name) or imported.get(root.id) == "":
        return None
    return function.attr if function.attr in own else None


def test_calls_name_their_arguments_from_the_fifth_on():
    trees = {path: ast.parse(path.read_text()) for path in [*FILES, *BENCHMARKS, *ROOT.glob("examples/**/*.py")]}
    own = {name: variadic for tree in trees.values() for name, variadic in own_functions(tree).items()}
    long = []
    for path, tree in trees.items():
        imported = imported_names(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            function, arguments = node.func, node.args
            if isinstance(function, ast.Name) and function.id == "partial":
                function, *arguments = arguments
            name = called(function, own, imported)
            if name is not None and len(arguments) > 4 and not own.get(name):
                long.append(f"{path.relative_to(ROOT)}:{node.lineno}: {len(arguments)} positional arguments of {name}")
    assert not long


def test_test_files_have_names_of_their_own():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


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


def test_the_architecture_page_names_every_room_and_only_files_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {room for room in ROOMS if not room.startswith("__") and (SOURCE / room).exists()}
    assert {room for room in rooms if f"`{room}/`" not in text and f"`{room}.py`" not in text} == set()
    for room, paragraph in re.findall(r"^\*\*`([a-z]+)/`\*\*(.*?)\n\n", text, re.MULTILINE | re.DOTALL):
        for name in re.findall(r"`((?:\w+/)*\w+\.(?:py|c|h))`", paragraph):
            assert any((place / name).exists() for place in (SOURCE / room, SOURCE)), f"{room}: {name}"
