"""Commands run where POSIX modules and calls are missing, as on Windows."""

import subprocess
import sys

import pytest

SCRIPT = """
import builtins, os, signal, sys
import huggingface_hub, matplotlib.figure, psutil, scipy.spatial, torch, trimesh

POSIX = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "posix", "syslog"}
original = builtins.__import__

def without_posix(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if name in POSIX and importer.split(".")[0] in ("qvggt", "filelock"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return original(name, globals, locals, fromlist, level)

builtins.__import__ = without_posix
for module, names in (
    (os, "sysconf geteuid getuid getpgid setsid fork killpg chown fchmod mkfifo sched_getaffinity pread"),
    (signal, "SIGHUP SIGKILL SIGALRM SIGUSR1 SIGPIPE alarm"),
):
    for name in names.split():
        delattr(module, name)

import pkgutil, importlib, qvggt
for module in pkgutil.walk_packages(qvggt.__path__, "qvggt."):
    if not module.name.endswith(("__main__", ".fused", "ray")):  # what needs Triton, or Ray
        importlib.import_module(module.name)
from qvggt.cli import main
main(["demo", "-o", sys.argv[1]])
photos, result = sys.argv[1] + "/photos", sys.argv[1] + "/result"
for command in (
    ["render", "rooms", "-o", photos, "--scenes", "1", "--frames", "4", "--size", "28"],
    ["reconstruct", "seeded:micro", photos + "/test-00000/images", "-o", result, "--window", "3", "--overlap", "1"],
    ["reconstruct", "seeded:micro", photos + "/test-00000/images", "-o", result, "--overwrite", "--memory", "2GB"],
    ["export", result, "-o", sys.argv[1] + "/colmap", "--format", "colmap"],
):
    main(command)
"""


@pytest.mark.process
def test_demo_runs_without_posix_modules(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "demo")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "differs from the float model" in done.stdout
    assert not list((tmp_path / "demo").rglob("*qvggt-lock*"))
