"""Build wheel and sdist, check them, and try the wheel in a fresh environment of every Python that is at hand.

    python scripts/matrix.py [--python 3.10 3.12] [--steps smoke demo] [--again] [--page docs/install.md]

Pythons are looked for below ~/.pyenv, on PATH, and, if uv is installed, where uv has or can get them. The steps are
those of ``scripts/trial.py``; one that fails stops no other. All goes into out/matrix: a log of each Python, and
results.json, by which a second call leaves out the Pythons that passed with the same wheel (not with --again). Needs
``build`` and ``twine``. uv, if it is on PATH, takes pip's place: it unpacks a package once for all Pythons. The exit
status is 1 if a step failed, not if a Python is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from trial import SKIPPED, STEPS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "out" / "matrix"
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
INSTALL = "install"
PASSED, FAILED, TIMED_OUT, LACKING = "passed", "failed", "timed out", "skipped"
ABOUT = "import platform, torch; print(platform.python_version(), torch.__version__)"

Row = dict[str, Any]
"""What one Python gave: "python", "torch", "bytes", "wheel" (its hash) and "steps", {name: [outcome, seconds]}."""


def main() -> int:
    """Build, try every Python, print one table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=VERSIONS, metavar="VERSION", help="default: 3.10 to 3.14")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS, metavar="STEP", help="default: all")
    parser.add_argument("--again", action="store_true", help="try also what passed with the same wheel")
    parser.add_argument("--keep", action="store_true", help="keep the environments, up to 7 GB each")
    parser.add_argument("--minutes", type=float, default=30.0, help="limit of each step (default: 30)")
    parser.add_argument("--page", type=Path, help="write the table into this page too")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        wheel = distributions()
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for version in options.python:
        if options.again or not is_finished(read_results().get(version), digest, options.steps):
            row = try_python(version, wheel, options.steps, limit_s=60 * options.minutes, keep=options.keep)
            if row is not None:
                keep_row(version, {**row, "wheel": digest})
    rows = read_results()
    current = {version: row for version, row in rows.items() if row["wheel"] == digest}
    tried = [version for version in VERSIONS if version in current or version in options.python]
    sys.stdout.write(table(tried, current))
    if options.page is not None:
        write_page(options.page, table([version for version in tried if version in current], current, times=False))
    return int(any(is_failed(current.get(version)) for version in options.python))


def distributions() -> Path:
    """Build wheel and sdist, check their metadata, and return the wheel."""
    dist = FOLDER / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT)], check=True, stdout=sys.stderr)
    files = sorted(map(str, dist.iterdir()))
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True, stdout=sys.stderr)
    return next(dist.glob("*.whl"))


def try_python(version: str, wheel: Path, names: Iterable[str], *, limit_s: float, keep: bool) -> Row | None:
    """Install the wheel for one Python and take the steps outside the repository, or return None without the Python."""
    interpreter = find(version)
    if interpreter is None:
        return None
    environment = FOLDER / version
    shutil.rmtree(environment, ignore_errors=True)
    python = str(environment / "bin" / "python")
    install, make = installation(interpreter, environment, python)
    steps: dict[str, list[Any]] = {}
    with tempfile.TemporaryDirectory() as outside, (FOLDER / f"{version}.log").open("w") as log:

        def take(name: str, *commands: list[str]) -> str:
            steps[name] = taken(commands, outside, log, limit_s)
            sys.stderr.write(f"Python {version}: {name} {steps[name][0]}, {steps[name][1]:.0f} s\n")
            return steps[name][0]

        row: Row = {"python": version, "torch": "-", "bytes": 0, "steps": steps}
        if take(INSTALL, make, [*install, str(wheel)]) == PASSED:
            about = subprocess.run([python, "-c", ABOUT], capture_output=True, text=True, check=False).stdout.split()
            row["python"], row["torch"] = about or ("?", "?")
            row["bytes"] = sum(path.lstat().st_blocks * 512 for path in environment.rglob("*"))
            for name, step in ((name, STEPS[name]) for name in STEPS if name in names):
                extras = [f"{wheel}[{','.join(step.extras)}]"] if step.extras else []
                needed = [*extras, *step.packages]
                take(
                    name, *([[*install, *needed]] if needed else []), [python, str(ROOT / "scripts" / "trial.py"), name]
                )
        for picture in Path(outside).glob("*.png"):
            shutil.copy(picture, FOLDER / f"{version}-{picture.name}")
    if not keep:
        shutil.rmtree(environment, ignore_errors=True)
    return row


def installation(interpreter: str, environment: Path, python: str) -> tuple[list[str], list[str]]:
    """Return the commands that install packages into an environment, less their names, and that make it."""
    if uv := shutil.which("uv"):
        make = [interpreter, "-m", "venv", "--without-pip", str(environment)]
        return [uv, "pip", "install", "--quiet", "--python", python], make
    make = [interpreter, str(ROOT / "scripts" / "make_venv.py"), str(environment)]
    return [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"], make


def taken(commands: Iterable[list[str]], folder: str, log: IO[str], limit_s: float) -> list[Any]:
    """Run commands in a folder until one does not end well; return the outcome and the seconds.

    Nothing of this Python's own settings is handed on, and what a command has started ends with it.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    start, outcome = time.monotonic(), PASSED
    for command in commands:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        try:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            log.write(f"{error}\n")
            return [FAILED, time.monotonic() - start]
        try:
            status = process.wait(max(0.0, start + limit_s - time.monotonic()))
            outcome = {0: PASSED, SKIPPED: LACKING}.get(status, FAILED)
        except subprocess.TimeoutExpired:
            outcome = TIMED_OUT
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if outcome != PASSED:
            break
    return [outcome, time.monotonic() - start]


def find(version: str) -> str | None:
    """Return an interpreter of a version, or None if none is at hand."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    candidates = [str(installed[-1])] if installed else []
    candidates += [place] if (place := shutil.which(f"python{version}")) else []
    if not candidates and (uv := shutil.which("uv")):
        subprocess.run([uv, "python", "install", "--quiet", version], check=False, timeout=600)
        found = subprocess.run([uv, "python", "find", version], capture_output=True, text=True, check=False)
        candidates += found.stdout.split()
    return next(filter(runs, candidates), None)


def runs(interpreter: str) -> bool:
    """Return whether an interpreter starts: a name on PATH may be a stand-in for one that is missing."""
    return subprocess.run([interpreter, "-c", ""], capture_output=True, check=False).returncode == 0


def is_finished(row: Row | None, digest: str, names: Iterable[str]) -> bool:
    """Return whether a row is of this wheel, has these steps, and needs no second try."""
    return row is not None and row["wheel"] == digest and row["steps"].keys() >= {*names} and not is_failed(row)


def is_failed(row: Row | None) -> bool:
    """Return whether a step of a row failed or took too long."""
    return row is not None and any(outcome in (FAILED, TIMED_OUT) for outcome, _ in row["steps"].values())


def table(versions: Iterable[str], rows: Mapping[str, Row], times: bool = True) -> str:
    """Return the rows as a table: what became of each step, or the seconds of what passed."""
    names = (INSTALL, *STEPS)
    unit = ", s" if times else ""
    lines = [("Python", "torch", "environment, GB", *(name + unit for name in names)), ("---",) * (len(names) + 3)]
    for version in versions:
        if version not in rows:
            lines.append((version, "not found", *("",) * (len(names) + 1)))
            continue
        row, steps = rows[version], rows[version]["steps"]
        cells = (cell(*steps[name], times) if name in steps else "" for name in names)
        lines.append((row["python"], row["torch"], f"{row['bytes'] / 1e9:.1f}", *cells))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(outcome: str, seconds: float, times: bool) -> str:
    """Return a step's outcome, or its seconds if it passed."""
    return f"{seconds:.0f}" if times and outcome == PASSED else outcome


def read_results() -> dict[str, Row]:
    """Return the rows of earlier calls by version."""
    path = FOLDER / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep_row(version: str, row: Row) -> None:
    """Add a row to the results, with the earlier steps of the same wheel, whole or not at all."""
    rows = read_results()
    earlier = rows.get(version)
    if earlier is not None and earlier["wheel"] == row["wheel"]:
        row = {**row, "steps": {**earlier["steps"], **row["steps"]}}
    new = FOLDER / "results.json.new"
    new.write_text(json.dumps({**rows, version: row}, indent=1), encoding="utf-8")
    new.replace(FOLDER / "results.json")


def write_page(page: Path, content: str) -> None:
    """Put the table between the markers of a page."""
    sys.path.append(str(ROOT / "docs"))
    from marked import replace_between

    page.write_text(replace_between(page.read_text(encoding="utf-8"), "matrix", content.rstrip()), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
