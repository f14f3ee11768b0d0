import json
from dataclasses import replace

import pytest

import qvggt as package
from qvggt.api.self_test import ComputeCheck, Difference, SelfTest
from qvggt.cli import doctor_page
from qvggt.machine.hardware import Gpu, Memory
from qvggt.machine.needs import Need
from qvggt.machine.software import Extra, Package

GB = 10**9


@pytest.fixture(scope="module")
def report():
    return package.doctor(quick=True)


@pytest.fixture
def shown(monkeypatch, qvggt):
    """Return a function that runs the command with a report."""

    def run(report, *arguments):
        monkeypatch.setattr("qvggt.api.doctor.doctor", lambda *_: report)
        return qvggt("doctor", *arguments)

    return run


def test_doctor__says_what_is_there_and_tests_it(qvggt, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = qvggt("doctor", "--json", tmp_path / "x.json")
    assert (done.status, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80
    for title in ("Machine", "Software", "Extras", "Caches", "What --device auto", "VGGT-1B, images", "Self test"):
        assert f"\n{title}" in f"\n{done.out}"
    values = json.loads((tmp_path / "x.json").read_text())
    assert values["passed"] is values["self_test"]["passed"] is True
    assert [check["passed"] for check in values["self_test"]["checks"]] == [True] * len(values["self_test"]["checks"])
    assert {need["frames"] for need in values["needs"]} == {1, 8, 30, 100}
    assert values["software"]["torch"] in done.out
    assert values["auto"][0]["reason"].split()[0] in done.out


def test_doctor__json_on_standard_output(shown, report):
    done = shown(report, "--json", "-")
    assert done.status == 0
    assert json.loads(done.out)["self_test"] is None
    assert "Machine" in done.err


def test_doctor__a_failed_self_test_is_status_1(shown, report):
    check = ComputeCheck("cpu", "int8", "cpu-native", Difference(9.0, 9.0, 0.9), Difference(1.0, 1.0, 0.1))
    done = shown(replace(report, self_test=SelfTest(True, (check,))))
    assert done.status == 1
    assert "failed  9.000 (1)" in done.out
    assert done.sentence.startswith("the self test failed: int8 on cpu")
    broken = replace(check, difference=None, error="illegal instruction")
    assert "illegal instruction" in shown(replace(report, self_test=SelfTest(True, (broken,)))).out
    assert "quantization" in shown(replace(report, self_test=SelfTest(False, ()))).sentence
    assert "no disk" in shown(replace(report, self_test=SelfTest(False, (), "no disk"))).sentence


def test_doctor__advice(shown, report):
    need = Need("4 bits", "cpu", "int8", 100, peak_bytes=5 * GB, usable_bytes=3 * GB, fits=False)
    extra = Extra("viewer", (Package("viser", ">=1.1", "1.0", fits=False), Package("x", "", None, fits=False)))
    done = shown(
        replace(
            report,
            memory=Memory(16 * GB, 8 * GB, 4 * GB, 3 * GB),
            gpus=(Gpu("cuda:0", "A GPU", 8 * GB, 6 * GB, capability="9.0"),),
            software=replace(report.software, compiler="", native_problem="no C compiler"),
            extras=(extra,),
            needs=(
                replace(need, window=12),
                replace(need, fits=True, reduced_bytes=2 * GB),
                need,
                replace(need, device="cuda", fits=True, seconds=(3.0, 7.0)),
            ),
        )
    )
    text = " ".join(done.out.split())
    assert "the container's limit is 4.00 GB, 3.00 GB free" in text
    assert "A GPU; 8.00 GB, 6.00 GB free; compute capability 9.0" in text
    assert "C compiler none: install gcc or clang" in text
    assert 'missing: viser >=1.1 (found 1.0), x pip install "qvggt[viewer]"' in text
    assert "with --window 12" in text
    assert "with --memory 3000MB" in text
    assert "does not fit" in text
    assert "3.0 to 7.0 s" in text
    assert "was not measured" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ((2.0, 5.0), "2.0 to 5.0 s"),
        ((10.0, 25.0), "10 to 25 s"),
        ((100.0, 240.0), "2 to 4 min"),
        ((4e3, 1e4), "1.1 to 2.8 h"),
    ],
)
def test_seconds_text(seconds, text):
    need = Need("float", "cpu", "int8", 1, peak_bytes=1, usable_bytes=1, fits=True, seconds=seconds)
    assert doctor_page._seconds_text(need) == text


def test_doctor__of_python_is_frozen(report):
    assert report.passed
    assert report.self_test is None
    assert all(need.seconds is None for need in report.needs)
    with pytest.raises(AttributeError):
        report.needs = ()
    json.dumps(report.to_json())


def test_errors_point_to_doctor(qvggt, tmp_path, photos, monkeypatch):
    def load(*_, **__):
        raise MemoryError

    low = qvggt("plan", "seeded:vggt-1b", "--frames", 30, "--memory", "1GB").sentence
    device = qvggt("reconstruct", "seeded:micro", photos, "-o", tmp_path / "a", "--device", "cuda").sentence
    monkeypatch.setattr("qvggt.api.reconstruct.load", load)
    memory = qvggt("reconstruct", "seeded:micro", photos, "-o", tmp_path / "a").sentence
    for sentence in (low, device, memory):
        assert "qvggt doctor" in sentence
