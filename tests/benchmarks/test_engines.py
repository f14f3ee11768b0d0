"""The run against other engines: what every one is given, and what becomes of one that cannot take part."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import engines
from engine import Engine
from timing import Failed, take_turns
from worker import ENGINES, Job, carry_out, sentence
from workloads import SMALL, WORKLOADS, Workload, written_plainly


def job(engine="float32 eager", folder="f"):
    return Job("measure", engine, SMALL["block"], Path(folder), threads=1, calls=1)


@pytest.mark.parametrize("workload", SMALL.values(), ids=SMALL)
def test_a_piece_is_the_same_every_time_and_however_it_is_written(workload):
    with torch.inference_mode():
        first, second = (workload.module()(workload.tokens()) for _ in range(2))
    module = workload.module()
    with torch.no_grad(), written_plainly(module):
        plain = module(workload.tokens())
    assert torch.equal(first, second)
    assert first.std() > 1e-3
    torch.testing.assert_close(plain, first, rtol=1e-4, atol=1e-4)


def test_the_full_block_is_that_of_one_frame():
    assert WORKLOADS["block"].tokens().shape == (1, 1374, 1024)


def test_ours_is_measured_against_float(tmp_path, capsys, monkeypatch, threads_restored):
    monkeypatch.setattr(engines, "in_a_process", lambda job, limit_s: carry_out(job))  # in this one: torch is here
    path = tmp_path / "engines.json"
    chosen = ["--workloads", "block", "--engines", "qvggt 4 bits, float", "--repeats", "1", "--calls", "1"]
    engines.main([*chosen, "--small", "--threads", "1", "--json", str(path)])
    base, ours = json.loads(path.read_text())["rows"]
    assert (base["speedup"], base["relative_difference"]) == (1, 0)
    assert 0.001 < ours["relative_difference"] < 0.3
    assert ours["weight_bytes"] < base["weight_bytes"] / 2
    assert ours["peak_memory_bytes"] >= 0
    assert "block of micro, 56 px" in capsys.readouterr().out


def test_an_engine_that_is_absent_or_fails_is_a_row_with_the_reason(tmp_path, monkeypatch):
    def nothing(*_):
        raise AssertionError("it is not to be called")

    monkeypatch.setitem(ENGINES, "absent", Engine(nothing, nothing, runtime="no_such_package"))
    contenders = {
        "absent": engines.Contender(job("absent", str(tmp_path / "0")), 60),
        "unknown": engines.Contender(job("unknown", str(tmp_path / "1")), 60),
        "slow": engines.Contender(job(folder=str(tmp_path / "2")), 0.01),
    }
    monkeypatch.setitem(ENGINES, "unknown", ENGINES[engines.BASE])  # here, but not in the process
    rows = {row["contender"]: row for row in engines.measure_workload("block", contenders, 1)}
    assert rows["absent"]["reason"] == "not installed: no_such_package (pip install 'qvggt[bench]')"
    assert rows["unknown"]["reason"] == "KeyError: 'unknown'"
    assert rows["slow"]["reason"] == "did not prepare within 0 s"


def test_a_process_that_the_system_ends_is_a_reason(tmp_path, monkeypatch):
    ended = subprocess.CompletedProcess([], -9, "", "a warning of long before")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(Failed, match="signal 9"):
        engines.Contender(job(folder=str(tmp_path / "0")), 60).measure()


def test_contenders_take_turns_and_one_that_fails_is_left_out():
    order = []

    def call(name, fails_at=99):
        order.append(name)
        if order.count(name) == fails_at:
            raise Failed(f"{name} broke")
        return len(order)

    contenders = {"a": lambda: call("a"), "b": lambda: call("b", fails_at=2)}
    results, reasons = take_turns(contenders, 3, lambda name, share: None)
    assert "".join(order) == "ababa"
    assert results == {"a": [1, 3, 5]}
    assert reasons == {"b": "b broke"}


def test_a_job_survives_the_way_to_its_process():
    sent = replace(job(), workload=Workload("head", "nano", 112))
    assert Job.from_json(json.loads(json.dumps(sent.to_json()))) == sent


def test_a_failure_is_one_sentence():
    assert sentence(RuntimeError("raised:\n\nno compiler\nat line 3")) == "RuntimeError: raised: no compiler"
    assert sentence(MemoryError()) == "MemoryError"
    assert sentence(Failed("there are no linear layers")) == "there are no linear layers"


@pytest.mark.parametrize("arguments", [["--engines", "abacus"], ["--calls", "0"], ["--workloads", "tail"]])
def test_impossible_options_are_refused(arguments):
    with pytest.raises(SystemExit):
        engines.main(arguments)
