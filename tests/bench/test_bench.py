"""Benchmarks: what is measured, how rows and ratios follow, and what a failing contender does."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from qvggt.bench import run as module
from qvggt.bench.machine import describe_machine
from qvggt.bench.measurement import BenchRun, Measurement
from qvggt.bench.report import BenchReport, BenchRow, ratio_of, relative_differences
from qvggt.bench.run import bench, contenders_of, run_in_process
from qvggt.bench.worker import measure, sampled
from qvggt.options import BenchOptions
from qvggt.plots.bench import PARTS, write_profile
from qvggt.types import QvggtError


def measured(seconds, memory=1000):
    parts = dict.fromkeys(PARTS, seconds / len(PARTS))
    return Measurement(seconds, 0.5, memory, 10, 4000, parts)


def row(model, times, memory=1000, files=None):
    return BenchRow(model, "float", 1, 28, tuple(measured(time, memory) for time in times), files)


@pytest.mark.process
def test_run_in_process__time_memory_and_outputs(tmp_path):
    outputs = tmp_path / "a.npz"
    found = run_in_process(BenchRun("nano", frames=2, size_px=56, threads=1, outputs=str(outputs)))
    assert 0 < found.seconds < 60
    assert found.weight_bytes > 20e6
    assert found.peak_memory_bytes > 10e6
    assert sum(found.parts.values()) == pytest.approx(found.seconds, rel=0.05)
    assert {"patch embedding", "frame attention", "global attention", "depth head"} <= set(found.parts)
    assert set(np.load(outputs)) >= {"pose_enc", "depth", "world_points"}


@pytest.mark.process
def test_run_in_process__a_failure_says_why():
    with pytest.raises(QvggtError, match="patches of 14 px"):
        run_in_process(BenchRun("nano", size_px=50, threads=1))


def test_measure__the_same_run_gives_the_same_outputs(tmp_path):
    threads = torch.get_num_threads()
    try:
        for name in "ab":
            measure(BenchRun("nano", size_px=56, threads=1, outputs=str(tmp_path / f"{name}.npz")))
    finally:
        torch.set_num_threads(threads)
    first, second = (np.load(tmp_path / f"{name}.npz") for name in "ab")
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_bench__contenders_take_turns_and_are_compared(monkeypatch):
    order = []

    def fake(run):
        order.append((run.model, run.frames))
        if run.outputs:
            factor = 1.0 if run.model == "nano" else 1.1
            np.savez(run.outputs, depth=np.full(5, 2.0 * factor), pose_enc=np.ones(9))
        return measured(4.0 if run.model == "nano" else 2.0, 1000 if run.model == "nano" else 250)

    monkeypatch.setattr(module, "run_in_process", fake)
    sample = "nano-hard"
    report = bench(BenchOptions((sample,), ("float",), against="nano", frames=(1, 2), size_px=56, repeats=2))
    assert order == [("nano", 1), (sample, 1), ("nano", 2), (sample, 2)] * 2
    (first, second) = report.ratios
    assert (first.speedup, first.memory_reduction, first.frames, second.frames) == (2.0, 4.0, 1, 2)
    assert report.rows[1].differences == {"pose_enc": 0.0, "depth": pytest.approx(0.1)}
    values = json.loads(json.dumps(report.to_json()))
    assert [each["model"] for each in values["rows"]] == ["nano", sample, "nano", sample]
    assert {"seconds", "peak_memory_bytes", "weight_bytes", "checkpoint_bytes"} <= set(values["rows"][0])
    assert set(values["ratios"][0]) == {
        "model", "compute", "frames", "speedup", "memory_reduction", "size_reduction"
    }  # fmt: skip


def test_contenders_of__every_compute_mode_and_attention():
    options = BenchOptions(("a",), ("float", "int8"), ("exact", "merged"), against="b")
    found = [(run.model, run.how) for run in contenders_of(options)]
    assert found == [("b", "float32"), ("a", "float"), ("a", "float, merged"), ("a", "int8"), ("a", "int8, merged")]


def test_contenders_of__the_reference_model_in_other_modes():
    found = [run.how for run in contenders_of(BenchOptions(("b",), ("float32", "bfloat16"), against="b"))]
    assert found == ["float32", "bfloat16"]


def test_contenders_of__the_reference_model_under_autocast():
    found = contenders_of(BenchOptions(("a",), ("int8",), against="b", autocast=("bfloat16",)))
    assert [(run.model, run.how) for run in found] == [("b", "float32"), ("b", "autocast bfloat16"), ("a", "int8")]


def test_measure__autocast_computes_in_its_type(tmp_path):
    def depth(autocast):
        measure(BenchRun("nano", size_px=56, threads=1, autocast=autocast, outputs=str(tmp_path / "a.npz")))
        return np.load(tmp_path / "a.npz")["depth"]

    exact, half = depth(""), depth("bfloat16")
    assert 0 < np.abs(half / exact - 1).max() < 0.1


def test_ratios__the_reference_model_in_another_mode():
    rows = (row("a", [3.0], 600), replace(row("a", [1.0], 300), compute="bfloat16"))
    (ratio,) = BenchReport({}, rows, "a").ratios
    assert (ratio.compute, ratio.speedup) == ("bfloat16", 3.0)


def test_bench__a_contender_that_fails_leaves_the_others(monkeypatch):
    def fake(run):
        if run.model == "nano-hard":
            raise QvggtError("no memory")
        return measured(1.0)

    monkeypatch.setattr(module, "run_in_process", fake)
    report = bench(BenchOptions(("nano-hard",), ("float",), against="nano", size_px=56, repeats=2))
    assert [(each.model, each.error) for each in report.rows] == [("nano", ""), ("nano-hard", "no memory")]
    assert report.rows[1].to_json()["error"] == "no memory"
    assert report.ratios == ()


def test_ratio_of__medians():
    base, other = row("a", [3.0, 1.0, 2.0], 600), row("b", [0.5], 200, files=800)
    assert (base.seconds, base.to_json()["seconds_least"], base.to_json()["seconds_most"]) == (2.0, 1.0, 3.0)
    ratio = ratio_of(other, base)
    assert (ratio.speedup, ratio.memory_reduction, ratio.size_reduction) == (4.0, 3.0, 5.0)
    assert ratio_of(base, base).size_reduction is None


def test_relative_differences():
    found = relative_differences({"x": np.array([3.0, 4.4])}, {"x": np.array([3.0, 4.0])})
    assert found == {"x": pytest.approx(0.08)}
    assert sampled(torch.arange(100_000.0)).size == 4096


@pytest.mark.parametrize(
    "options",
    [
        {"models": ()},
        {"frames": ()},
        {"frames": (0,)},
        {"repeats": 0},
        {"threads": -1},
        {"computes": ()},
        {"global_attention": ()},
        {"size_px": 0},
        {"size_px": -14},
        {"threads": 0},
    ],
)
def test_bench_options__impossible_values_are_refused(options):
    with pytest.raises(QvggtError):
        BenchOptions(**{"models": ("nano",), **options})


def test_describe_machine():
    about = describe_machine(threads=3)
    assert about["threads"] == 3
    assert about["memory_bytes"] > 1e8
    assert about["torch"] == torch.__version__
    json.dumps(about)


@pytest.mark.render
def test_write_profile__is_a_picture(tmp_path):
    report = BenchReport(describe_machine(), (row("nano", [1.0]), row("x" * 80, [2.0])), "nano")
    write_profile(tmp_path / "p.png", report)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
