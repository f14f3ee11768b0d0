"""Torture qvggt: kills, full disks, damaged files, long runs and threads; print one table.

    python scripts/torture.py [PART ...] [--kills N] [--inputs N] [--commands NAME ...] [--page docs/reliability.md]

Parts: kills, disks, readers, memory, threads, compile; --page replaces their rows in a page. --commands chooses what
is killed and what gets a full disk. Needs a system with fork; `disks` needs root, to mount tmpfs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a forked process must not wait for threads that stayed behind

import numpy as np
import psutil
import torch

import qvggt
from qvggt.cli import main as command_line
from qvggt.files.folder import MANIFEST
from qvggt.inference.process_memory import resident_memory_bytes
from qvggt.weights.pretrained import SAMPLE_SCENE, sample_images

sys.path.append(str(Path(__file__).parent))

MODEL = "seeded:micro"
CALIBRATION = ("--calib", str(SAMPLE_SCENE), "--calib-scenes", "3", "--calib-frames", "2", "--group-size", "16")

COMMANDS: dict[str, tuple[Callable[[Path], list[str]], tuple[str, ...]]] = {
    "reconstruct": (lambda out: ["reconstruct", MODEL, str(SAMPLE_SCENE), "-o", str(out / "r")], ("--overwrite",)),
    "reconstruct, windows": (
        lambda out: ["reconstruct", MODEL, str(SAMPLE_SCENE), "-o", str(out / "w"), "--window", "3"], ("--overwrite",),
    ),
    "reconstruct, scenes": (
        lambda out: [
            "reconstruct", MODEL, "--scenes", str(out.parent / "scenes" / "*"), "-o", str(out / "s"),
            "--files", "prediction.npz", "depth",
        ],
        ("--overwrite",),
    ),
    "view, page": (
        lambda out: ["view", str(out.parent / "result"), "--html", str(out / "page.html")], (),
    ),
    "export": (
        lambda out: ["export", str(out.parent / "result"), "-o", str(out / "e"), "--format", "colmap"],
        ("--overwrite",),
    ),
    "frames": (
        lambda out: ["frames", str(out.parent / "v.mp4"), "-o", str(out / "f"), "--number", "4"], ("--overwrite",),
    ),
    "quantize, rtn": (lambda out: ["quantize", MODEL, "-o", str(out / "q")], ("--overwrite",)),
    "quantize, gptq": (
        lambda out: ["quantize", MODEL, "-o", str(out / "q"), "--method", "gptq", *CALIBRATION],
        ("--resume", "--overwrite"),
    ),
    "render": (
        lambda out: ["render", "rooms", "-o", str(out / "rooms"), "--scenes", "3", "--frames", "2", "--size", "28"],
        (),
    ),
    "train": (lambda out: ["train", str(out.parent / "recipe.json"), "-o", str(out / "t")], ()),
    "evaluate": (
        lambda out: [
            "evaluate", MODEL, "--scenes", "4", "--frames", "2", "--store", str(out / "store"),
            "--json", str(out / "evaluation.json"),
        ],
        (),
    ),
    "sensitivity": (
        lambda out: [
            "sensitivity", MODEL, "-o", str(out / "s.json"), "--granularity", "unit", "--bits", "4", *CALIBRATION,
        ],
        (),
    ),
}  # fmt: skip
"""Commands that write: arguments for an output folder, and what a repeated run is given besides."""

RECIPE = {"model": "micro", "phases": [{"steps": 6, "image_px": 28, "images_per_step": 4, "frames": [2]}],
          "cooldown_steps": 2, "validate_steps": 100, "checkpoint_minutes": 0.0,
          "validate_landmarks": [1.0]}  # fmt: skip


def _write_inputs(folder: Path) -> None:
    """Write what commands read: a recipe, a result, a video and two scenes."""
    from fuzz_runs import write_video

    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    write_video(folder / "v.mp4")
    for scene, images in (("a", sample_images()[:2]), ("b", sample_images()[2:4])):
        (folder / "scenes" / scene).mkdir(parents=True, exist_ok=True)
        for image in images:
            shutil.copy(image, folder / "scenes" / scene)
    if _ended(_started(["reconstruct", MODEL, str(SAMPLE_SCENE), "-o", str(folder / "result")]))[0] != 0:
        raise SystemExit("reconstruct fails")


def torture_kills(folder: Path, kills: int, commands: Sequence[str]) -> list[str]:
    """Kill every command at random moments; a repeated run must give the bytes of an uninterrupted one."""
    rows = []
    _write_inputs(folder)
    rng = random.Random(0)
    for name in commands:
        arguments, again = COMMANDS[name]
        whole = folder / "whole"
        whole.mkdir()
        modules = folder / "modules.json"
        _ended(_started(arguments(whole), modules))
        for module in json.loads(modules.read_text()):
            with contextlib.suppress(Exception):
                importlib.import_module(module)  # or most kills would fall into imports
        shutil.rmtree(whole)
        whole.mkdir()
        status, cpu_s = _ended(_started(arguments(whole)))
        if status != 0:
            raise SystemExit(f"{name} fails without being killed")
        expected = _contents(whole, name)
        killed = wrong = 0
        for _ in range(kills):
            out = folder / "killed"
            out.mkdir()
            killed += _killed(_started(arguments(out)), rng.random() * cpu_s)
            status, _ = _ended(_started([*arguments(out), *again]))
            differing = sorted({path for path, _ in expected.items() ^ _contents(out, name).items()})
            if status != 0 or differing:
                wrong += 1
                sys.stderr.write(f"{name}: status {status}, differing: {', '.join(differing)}\n")
            shutil.rmtree(out)
        shutil.rmtree(whole)
        rows.append(f"{name} | {kills} runs, {killed} killed | {wrong} differ from an uninterrupted run")
        sys.stderr.write(f"{rows[-1]}\n")
    return rows


def _started(arguments: Sequence[str], modules: Path | None = None) -> int:
    """Run a command in a forked process and return its id; at the end it writes the names of its modules to a file."""
    child = os.fork()
    if not child:
        os.setsid()
        silent = os.open(os.devnull, os.O_RDWR)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        status = 1
        with contextlib.suppress(BaseException):
            command_line(list(arguments))
            if modules is not None:
                modules.write_text(json.dumps(list(sys.modules)))
            status = 0
        os._exit(status)
    return child


def _ended(child: int) -> tuple[int, float]:
    """Wait for a process and return its exit status, and the seconds that it computed."""
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def _killed(child: int, after_s: float) -> bool:
    """Kill a process, and those that it has started, once it has computed for some seconds; return whether it lived."""
    process = psutil.Process(child)
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        while process.status() != psutil.STATUS_ZOMBIE and sum(process.cpu_times()[:4]) < after_s:
            time.sleep(0.002)
        os.killpg(child, signal.SIGKILL)
    return _ended(child)[0] == -signal.SIGKILL


TIMES = ("seconds", "minutes", "peak_memory_bytes", "stored")
"""Figures of a run that a repeated one need not meet."""


def _contents(folder: Path, name: str) -> dict[str, str]:
    """Return a hash of every file below a folder, times left out; leftovers of a killed run count as files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name == MANIFEST:
            continue
        key, data = path.relative_to(folder).as_posix(), path.read_bytes()
        if name == "train" and path.name == "checkpoint.pt":
            continue  # holds the seconds of the run
        if path.suffix in (".json", ".jsonl"):
            data = "".join(line for line in data.decode().splitlines() if not any(t in line for t in TIMES)).encode()
        found[key.replace(folder.name, "")] = hashlib.sha256(data).hexdigest()
    return found


def torture_disks(folder: Path, commands: Sequence[str]) -> list[str]:
    """Run every command on disks of many sizes and of few files: it ends well, or in one sentence that says why."""
    rows = []
    _write_inputs(folder)
    options = [f"size={1 << power}k" for power in range(2, 14)] + [f"nr_inodes={count}" for count in range(2, 26)]
    for name in commands:
        arguments, _ = COMMANDS[name]
        fine = said = wrong = 0
        for option in options:
            disk = folder / "disk"
            disk.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(disk)]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                return ["mounting a disk | not run | needs root"]
            status, sentence = _captured(arguments(disk))
            fine += status == 0
            said += status == 1 and sentence.startswith("qvggt: ") and sentence.count("\n") == 1
            wrong += not (status == 0 or (status == 1 and sentence.count("\n") == 1))
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
            disk.rmdir()
        rows.append(f"{name} | {len(options)} disks: {fine} large enough, {said} refused | {wrong} end otherwise")
        sys.stderr.write(f"{rows[-1]}\n")
    return rows


def _captured(arguments: Sequence[str]) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command_line(list(arguments))
            return 0, ""
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException as error:
            return 99, repr(error)
    lines = [line for line in err.getvalue().splitlines(keepends=True) if "warning" not in line]
    return status, "".join(lines)


def torture_readers(inputs: int) -> list[str]:
    """Give every reader damaged files."""
    from fuzz_readers import fuzz

    return fuzz(inputs)


def torture_memory(runs: int = 1000) -> list[str]:
    """Reconstruct many times in one process; memory must not grow."""
    model = _packed("int8")
    images = [np.random.default_rng(0).integers(0, 255, (28, 28, 3), dtype=np.uint8)] * 2
    levels = []
    for run in range(runs):
        qvggt.reconstruct(model, images)
        if run in (runs // 5, runs - 1):
            levels.append(resident_memory_bytes())
    grown = (levels[-1] - levels[0]) / 1e6
    return [f"{runs} reconstructions in one process | memory grew by {grown:.1f} MB after the first fifth | "
            f"{int(grown > 10)} leaks"]  # fmt: skip


def torture_threads(threads: int = 8, runs: int = 25) -> list[str]:
    """Run one quantized model in many threads; all outputs must be equal to the bit."""
    model, images = _packed("int8"), torch.rand(1, 2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(images)
    wrong = []

    def work() -> None:
        with torch.inference_mode():
            for _ in range(runs):
                found = model(images)
                wrong.extend(name for name in expected if not torch.equal(found[name], expected[name]))

    team = [threading.Thread(target=work) for _ in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    return [f"{threads} threads, {runs} passes each | {threads * runs} passes | {len(wrong)} outputs differ"]


def _packed(compute: str) -> qvggt.model.VGGT:
    with tempfile.TemporaryDirectory() as folder:
        qvggt.quantize_to(MODEL, f"{folder}/m", "rtn", qvggt.QuantizeOptions(qvggt.Scheme(4, 16)))
        return qvggt.load(f"{folder}/m", compute=compute)


def torture_compile(processes: int = 4) -> list[str]:
    """Compile the native library in several processes at once, in an empty cache."""
    code = "from qvggt.backends.native.library import unavailable_reason as r; import sys; sys.exit(r() is not None)"
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"XDG_CACHE_HOME": cache}
        team = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(processes)]
        failed = sum(one.wait() != 0 for one in team)
    return [f"first compilation, {processes} processes at once | {processes} processes | {failed} fail"]


def main() -> None:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), metavar="NAME")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qvggt-torture-") as place:
        parts: dict[str, Callable[[], list[str]]] = {
            "kills": lambda: torture_kills(Path(place), options.kills, options.commands),
            "disks": lambda: torture_disks(Path(place), options.commands),
            "readers": lambda: torture_readers(options.inputs),
            "memory": torture_memory,
            "threads": torture_threads,
            "compile": torture_compile,
        }
        unknown = sorted(set(options.parts) - set(parts))
        if unknown:
            parser.error(f"no part {unknown[0]!r}: choose from {', '.join(parts)}")
        rows = []
        for name in options.parts or parts:
            started = time.monotonic()
            rows += [f"| {name} | {row} |" for row in parts[name]()]
            sys.stderr.write(f"{name}: {time.monotonic() - started:.0f} s\n")
    sys.stdout.write(_table(rows))
    if options.page is not None:
        sys.path.append(str(Path(__file__).parents[1] / "docs"))
        from marked import replace_between

        page = options.page.read_text(encoding="utf-8")
        run = options.parts or list(parts)
        table = _table([row for part in parts for row in _shown(part, page, rows, run)])
        options.page.write_text(replace_between(page, "torture", table.rstrip()), encoding="utf-8")


def _shown(part: str, page: str, rows: Sequence[str], run: Sequence[str]) -> list[str]:
    """Return the rows of a part: of this run where it was run, and those of the page otherwise."""
    old, new = ([row for row in found if row.startswith(f"| {part} | ")] for found in (page.splitlines(), rows))
    if part not in run:
        return old
    if part not in ("kills", "disks"):
        return new
    by_command = {row.split(" | ")[1]: row for row in (*old, *new)}
    return [by_command[name] for name in COMMANDS if name in by_command]


def _table(rows: Sequence[str]) -> str:
    return "\n".join(["| part | what was done | how much | faults |", "|---|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    main()
