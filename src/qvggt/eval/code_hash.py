"""Hash of the source code that a public verb runs, derived from its static imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from qvggt.version import __version__

_PACKAGE = Path(__file__).parents[1]


@lru_cache
def code_hash(module: str, package: Path = _PACKAGE) -> str:
    """Return a hash of all source files that a module reaches, so that no kept result outlives a change of its code.

    Args:
        module: dotted name, such as ``qvggt.api.evaluate``.
        package: folder of the package ``qvggt``.

    Returns:
        ``sha256:...`` over the version, and the names and bytes of the files that ``reached_files`` lists.
    """
    digest = hashlib.sha256(__version__.encode())
    for path in reached_files(module, package):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def reached_files(module: str, package: Path = _PACKAGE) -> list[Path]:
    """Return the package's source files that a module imports, directly or through others, sorted.

    Imports inside functions count; imports under ``if TYPE_CHECKING`` do not. Importing a module runs the
    ``__init__.py`` of every package around it, so those count too. C sources count with the Python files beside them.

    Args:
        module: dotted name, such as ``qvggt.api.evaluate``.
        package: folder of the package ``qvggt``.

    Raises:
        ValueError: there is no such module.
    """
    reached: set[Path] = set()
    waiting = list(_files_of(module, package))
    if len(waiting) <= module.count("."):
        raise ValueError(f"no module {module!r} in {package}")
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += [file for name in _imported(path, package) for file in _files_of(name, package)]
    native = {source for folder in {path.parent for path in reached} for source in folder.glob("*.[ch]")}
    return sorted(reached | native)


def _files_of(name: str, package: Path) -> Iterator[Path]:
    """Yield the file of a module of ours and the ``__init__.py`` of the packages around it."""
    first, *parts = name.split(".")
    if first != package.name:
        return
    for depth in range(len(parts) + 1):
        place = package.joinpath(*parts[:depth])
        found = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if found.is_file():
            yield found


def _imported(path: Path, package: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports; of ``from a import b`` that is ``a.b``."""
    around = (package.name, *path.relative_to(package).parts[:-1])
    for node in _statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join((*(around[: len(around) - node.level + 1] if node.level else ()), node.module or ""))
            yield from (f"{base.rstrip('.')}.{alias.name}" for alias in node.names)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below one, without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _statements(child)
