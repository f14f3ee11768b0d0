"""Compiling, keeping and loading the native library."""

import os
import subprocess
import sys
import time

import pytest

from qvggt.backends.native import library as native
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.native.processors import X86, processor

KIND = processor() or X86
needs_library = pytest.mark.skipif(unavailable_reason() is not None, reason="no native library on this machine")
pytestmark = pytest.mark.native


@pytest.fixture(scope="session")
def compiled():
    """Return the bytes of the library, so that tests need not compile it."""
    return native._compiled(KIND).read_bytes()


@pytest.fixture
def compilations(compiled, monkeypatch, tmp_path):
    """Empty the cache, let compilation take no time, and return a list that grows by one per compilation."""
    done = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "_compile", lambda kind, special: done.append(special) or compiled)
    native._outcome.cache_clear()
    yield done
    native._outcome.cache_clear()


def outcome_anew():
    native._outcome.cache_clear()
    return unavailable_reason()


def kept(tmp_path):
    return sorted((tmp_path / "qvggt" / "native").iterdir())


@needs_library
def test_library__is_compiled_once(compilations, tmp_path):
    assert outcome_anew() is None
    assert [path.suffix for path in kept(tmp_path)] == [".so", ".json"]
    assert kept(tmp_path)[0].parent.stat().st_mode & 0o777 == 0o700
    assert outcome_anew() is None
    assert len(compilations) == 1


DAMAGE = {
    "cut short": lambda library, record: os.truncate(library, 4096),
    "empty": lambda library, record: os.truncate(library, 0),
    "altered": lambda library, record: library.write_bytes(library.read_bytes()[:-1] + b"?"),
    "missing": lambda library, record: library.unlink(),
    "no record": lambda library, record: record.unlink(),
    "record cut short": lambda library, record: os.truncate(record, 10),
    "another record": lambda library, record: record.write_text("[1]"),
}


@needs_library
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_library__a_damaged_one_is_compiled_anew(compilations, tmp_path, damage):
    assert outcome_anew() is None
    # What is mapped already must not be cut short: the process would end by SIGBUS.
    for path in kept(tmp_path):
        contents = path.read_bytes()
        path.unlink()
        path.write_bytes(contents)
    library, record = kept(tmp_path)
    damage(library, record)
    assert outcome_anew() is None
    assert len(compilations) == 2
    assert outcome_anew() is None
    assert len(compilations) == 2


@needs_library
def test_library__those_that_nobody_loads_any_more_are_removed(compilations, tmp_path):
    assert outcome_anew() is None
    folder = kept(tmp_path)[0].parent
    for name, days in (("products-old-1.so", 61), ("products-recent-1.so", 59), ("notes.so", 999)):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - 86400 * days,) * 2)
    (record,) = folder.glob("*.json")
    (library,) = folder.glob(f"{record.stem}-*.so")
    os.utime(library, (0, 0))
    assert outcome_anew() is None  # loading marks it as in use
    record.unlink()
    assert outcome_anew() is None  # compiled anew, and the others looked at
    assert len(compilations) == 2
    assert {path.name for path in kept(tmp_path)} == {library.name, record.name, "products-recent-1.so", "notes.so"}


@needs_library
def test_library__what_a_stranger_owns_is_not_loaded(compilations, monkeypatch, tmp_path):
    assert outcome_anew() is None
    monkeypatch.setattr(os, "geteuid", lambda: 54321, raising=False)
    assert "another user" in (outcome_anew() or "")
    assert len(compilations) == 1


@needs_library
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CC": "no-such-compiler"}, "install gcc or clang"),
        ({"CC": "false"}, "cannot compile"),
        ({"QVGGT_NATIVE": "0"}, "switched off"),
    ],
)
def test_library__says_why_it_is_unavailable(monkeypatch, tmp_path, environment, words):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        assert words in (outcome_anew() or "")
    finally:
        native._outcome.cache_clear()


FOUR = """
import os, sys
from qvggt.backends.native.library import unavailable_reason
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        os._exit(unavailable_reason() is not None)
    children.append(child)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@needs_library
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_library__four_processes_may_compile_at_once(compiled, tmp_path):
    made, compiler = tmp_path / "made.so", tmp_path / "compiler"
    made.write_bytes(compiled)
    compiler.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nsleep 0.3\ncp {made} "$2"\n')
    compiler.chmod(0o700)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "CC": str(compiler)}
    done = subprocess.run([sys.executable, "-c", FOUR], env=environment, check=False, timeout=120)
    assert done.returncode == 0
    assert [path.suffix for path in kept(tmp_path)] == [".so", ".json"]


def test_backends_are_imported_without_posix_modules():
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('fcntl', 'grp', 'pwd', 'resource', 'termios')))\n"
        "import qvggt.backends.operators, qvggt.backends.pick"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@needs_library
@pytest.mark.skipif(os.name == "nt", reason="POSIX")
@pytest.mark.parametrize("home", [None, "/dev/null/home"], ids=["none", "unusable"])
def test_library__without_a_home_one_warning_and_a_temporary_folder(home, tmp_path):
    code = (
        "import logging, os, pathlib, sys\n"
        "logging.basicConfig(format='%(message)s')\n"
        "os.geteuid = lambda: 54321 if sys.argv[1] == 'nobody' else 0\n"
        "from qvggt.files import user_cache\n"
        "def no_home(): raise RuntimeError('could not determine home directory')\n"
        "if sys.argv[1] == 'none': pathlib.Path.home = no_home\n"
        "for _ in range(3): folder = user_cache()\n"
        "print(folder, folder.stat().st_mode & 0o777 == 0o700)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    environment |= {"TMPDIR": str(tmp_path)} | ({} if home is None else {"HOME": home})
    command = [sys.executable, "-c", code, "none" if home is None else "unusable"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    folder, private = done.stdout.split()
    assert folder.startswith(str(tmp_path))
    assert private == "True"
    assert not os.path.exists(folder)
    assert len(done.stderr.splitlines()) == 1
    assert "XDG_CACHE_HOME" in done.stderr


@needs_library
@pytest.mark.parametrize("special", KIND.features.values(), ids=KIND.features)
def test_compilers_know_the_instructions_of_other_cpus(special, tmp_path):
    # At -O1 compilers refuse the same instructions as at -O3, in half the time.
    call = [*native.compiler(), *native.command(KIND, special, tmp_path / "a.so"), "-O1"]
    made = subprocess.run(call, capture_output=True, text=True, timeout=120)
    if "unrecognized" in made.stderr or "unknown argument" in made.stderr:
        pytest.skip("an old compiler")
    assert made.returncode == 0, made.stderr


@needs_library
def test_a_compiler_older_than_the_cpu_makes_the_usual_library(monkeypatch):
    monkeypatch.setattr(native, "special_flags", lambda _: ())
    usual = native._compiled(KIND)
    monkeypatch.setattr(native, "special_flags", lambda _: ("-munheard-of",))
    assert native._compiled(KIND) == usual
