"""Build wheel and sdist, check them, and try the wheel in a fresh environment of every Python that is at hand.

    python scripts/matrix.py [--python 3.10 3.12] [--keep-torch]

Pythons are looked for on PATH, below ~/.pyenv and, if uv is installed, where uv has or can get them. Everything goes
into out/matrix. Needs ``build`` and ``twine``. The exit status is 1 if a step failed, not if a Python is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "out" / "matrix"
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
SMOKE = """
import pathlib, sys, qvggt
from qvggt.weights.pretrained import sample_images
assert pathlib.Path(qvggt.__file__).is_relative_to(sys.prefix), qvggt.__file__
prediction = qvggt.reconstruct(qvggt.load("nano"), sample_images()[:2])
assert prediction.depth.shape[0] == 2 and (prediction.depth > 0).all()
prediction.save("smoke")
"""


def main() -> int:
    """Build, try every Python, print one table; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", nargs="+", default=VERSIONS, metavar="VERSION", help="default: 3.10 to 3.14")
    parser.add_argument("--keep-torch", action="store_true", help="keep earlier environments, to download less")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        wheel = distributions()
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    rows = [("Python", "wheel", "demo", "smoke test", "seconds")]
    rows += [row(version, wheel, keep=options.keep_torch) for version in options.python]
    for cells in rows:
        sys.stdout.write("  ".join(cell.ljust(11) for cell in cells).rstrip() + "\n")
    return int(any("failed" in cells for cells in rows))


def distributions() -> Path:
    """Build wheel and sdist, check their metadata, and return the wheel."""
    dist = FOLDER / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT)], check=True, stdout=sys.stderr)
    files = sorted(map(str, dist.iterdir()))
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True, stdout=sys.stderr)
    return next(dist.glob("*.whl"))


def row(version: str, wheel: Path, *, keep: bool) -> tuple[str, ...]:
    """Install the wheel for one Python, run demo and smoke test outside the repository; return the table row."""
    start = time.monotonic()
    interpreter = find(version)
    if interpreter is None:
        return (version, "not found", "-", "-", "-")
    environment = FOLDER / version
    if not keep:
        shutil.rmtree(environment, ignore_errors=True)
    python = str(environment / "bin" / "python")
    steps = {
        "wheel": [
            [interpreter, str(ROOT / "scripts" / "make_venv.py"), str(environment)],
            [python, "-m", "pip", "install", "--quiet", str(wheel)],
            [python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(wheel)],
        ],
        "demo": [[str(environment / "bin" / "qvggt"), "demo", "--output", "demo"]],
        "smoke test": [[python, "-c", SMOKE]],
    }
    with tempfile.TemporaryDirectory() as outside, (FOLDER / f"{version}.log").open("w") as log:
        passed = [all(succeeds(call, outside, log) for call in calls) for calls in steps.values()]
    cells = ["passed" if step else "failed" for step in passed]
    return (version, *cells, f"{time.monotonic() - start:.0f}")


def succeeds(command: list[str], folder: str, log) -> bool:
    """Return whether a command ends well in a folder, with nothing of the repository on its path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        return subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=False).returncode == 0
    except OSError as error:
        log.write(f"{command[0]}: {error}\n")
        return False


def find(version: str) -> str | None:
    """Return an interpreter of a version, or None if none is at hand."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if installed:
        return str(installed[-1])
    if shutil.which("uv"):
        for step in (["find"], ["install", "--quiet"], ["find"]):
            found = subprocess.run(["uv", "python", *step, version], capture_output=True, text=True, check=False)
            if step == ["find"] and found.returncode == 0:
                return found.stdout.strip()
    return shutil.which(f"python{version}")


if __name__ == "__main__":
    sys.exit(main())
