"""Running contenders in turns, each in a fresh process, so that none profits from what another left behind."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from qvggt.bench.job import Job, Measured
from qvggt.bench.machine import describe_machine
from qvggt.bench.report import BenchReport, BenchRow, relative_differences
from qvggt.checkpoint.open import open_model
from qvggt.options import BenchOptions
from qvggt.types import OnProgress, QvggtError

ANSWERS = ("pose_enc", "depth", "world_points")


def contenders_of(options: BenchOptions) -> list[Job]:
    """Return a run of the model that all are compared with, then of every contender, on no frames yet."""
    base = Job(options.against, frames=0, size_px=options.size_px, threads=options.threads, device=options.device)
    jobs = [
        replace(base, model=model, compute=compute, global_attention=attention)
        for model, compute, attention in itertools.product(options.models, options.computes, options.global_attention)
    ]
    return [base, *(job for job in dict.fromkeys(jobs) if job.model != options.against)]


def bench(options: BenchOptions, on_progress: OnProgress = lambda what, share: None) -> BenchReport:
    """Measure time and memory of several models side by side.

    Raises:
        QvggtError: a model cannot be found, or the one that all are compared with cannot run.
    """
    contenders = contenders_of(options)
    sizes = {job.model: open_model(job.model).file_bytes for job in contenders}
    jobs = [replace(job, frames=frames) for frames in options.frames for job in contenders]
    runs: dict[Job, list[Measured]] = {job: [] for job in jobs}
    errors: dict[Job, str] = {}
    answers: dict[Job, dict[str, np.ndarray]] = {}
    total = len(jobs) * options.repeats
    with tempfile.TemporaryDirectory(prefix="qvggt-bench-") as folder:
        for turn in range(total):
            job = jobs[turn % len(jobs)]
            if job in errors:
                continue
            on_progress(f"{Path(job.model).name}, {job.how}, frames {job.frames}", turn / total)
            place = Path(folder) / f"{turn}.npz"
            try:
                runs[job].append(run_job(replace(job, answers=str(place) if turn < len(jobs) else "")))
            except QvggtError as error:
                if job.model == options.against:
                    raise
                errors[job] = str(error)
                continue
            if place.exists():
                answers[job] = dict(np.load(place))
    rows = []
    for job in jobs:
        base = replace(contenders[0], frames=job.frames)
        differences = {} if job not in answers or job == base else relative_differences(answers[job], answers[base])
        shown = {name: differences[name] for name in ANSWERS if name in differences}
        row = BenchRow(job.model, job.how, job.frames, job.size_px, runs=tuple(runs[job]), differences=shown)
        rows.append(replace(row, checkpoint_bytes=sizes[job.model], error=errors.get(job, "")))
    return BenchReport(describe_machine(options.device, options.threads), tuple(rows), options.against)


def run_job(job: Job) -> Measured:
    """Run a job in a process of its own.

    Raises:
        QvggtError: it failed; the sentence is the process's own.
    """
    command = [sys.executable, "-m", "qvggt.bench.worker"]
    done = subprocess.run(command, input=json.dumps(job.to_json()), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else "the system ended it, as a rule because the memory ran out"
        raise QvggtError(f"{job.model} did not run on {job.frames} frames of {job.size_px} px: {reason}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))
