"""Run contenders in turns, each in a new process, so that caches and memory of one do not affect another."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from qvggt.backends import usable_device
from qvggt.bench.machine import describe_machine
from qvggt.bench.measurement import BenchRun, Measurement
from qvggt.bench.report import BenchReport, BenchRow, relative_differences
from qvggt.checkpoint.open import open_model
from qvggt.options import BenchOptions
from qvggt.types import OnProgress, QvggtError

OUTPUTS = ("pose_enc", "depth", "world_points")


def contenders_of(options: BenchOptions) -> list[BenchRun]:
    """Return runs of the reference model, then of every contender; their number of frames is not set yet."""
    base = BenchRun(
        options.against, "float32", frames=0, size_px=options.size_px, threads=options.threads, device=options.device
    )
    runs = [
        replace(base, model=model, compute=compute, global_attention=attention, revision=options.revision)
        for model, compute, attention in itertools.product(options.models, options.computes, options.global_attention)
    ]
    runs = [replace(base, autocast=half) for half in options.autocast] + runs
    return [base, *(run for run in dict.fromkeys(runs) if run != base)]


def bench(options: BenchOptions, on_progress: OnProgress = lambda what, share: None) -> BenchReport:
    """Measure time and memory of several models side by side.

    Raises:
        QvggtError: a model cannot be found, or the reference model cannot run.
    """
    options = replace(options, device=usable_device(options.device))
    contenders = contenders_of(options)
    sizes = {run.model: open_model(run.model, run.revision).file_bytes for run in contenders}
    runs = [replace(run, frames=frames) for frames in options.frames for run in contenders]
    measured: dict[BenchRun, list[Measurement]] = {run: [] for run in runs}
    errors: dict[BenchRun, str] = {}
    outputs: dict[BenchRun, dict[str, np.ndarray]] = {}
    total = len(runs) * options.repeats
    with tempfile.TemporaryDirectory(prefix="qvggt-bench-") as folder:
        for turn in range(total):
            run = runs[turn % len(runs)]
            if run in errors:
                continue
            on_progress(f"{Path(run.model).name}, {run.how}, frames {run.frames}", turn / total)
            place = Path(folder) / f"{turn}.npz"
            try:
                measured[run].append(run_in_process(replace(run, outputs=str(place) if turn < len(runs) else "")))
            except QvggtError as error:
                if replace(run, frames=0) == contenders[0]:
                    raise
                errors[run] = str(error)
                continue
            if place.exists():
                outputs[run] = dict(np.load(place))
    rows = []
    for run in runs:
        base = replace(contenders[0], frames=run.frames)
        differences = {} if run not in outputs or run == base else relative_differences(outputs[run], outputs[base])
        shown = {name: differences[name] for name in OUTPUTS if name in differences}
        took = measured[run][0].compute if measured[run] else ""
        how = run.how.replace("auto", f"auto ({took})") if took else run.how
        row = BenchRow(run.model, how, run.frames, run.size_px, runs=tuple(measured[run]), differences=shown)
        rows.append(replace(row, checkpoint_bytes=sizes[run.model], error=errors.get(run, "")))
    return BenchReport(describe_machine(options.device, options.threads), tuple(rows), options.against)


def run_in_process(run: BenchRun) -> Measurement:
    """Execute a run in a new process.

    Raises:
        QvggtError: the process failed; the message is its own.
    """
    command = [sys.executable, "-m", "qvggt.bench.worker"]
    done = subprocess.run(command, input=json.dumps(run.to_json()), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else "the system killed it, usually because memory ran out"
        raise QvggtError(f"{run.model} failed on {run.frames} frames of {run.size_px} px: {reason}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))
