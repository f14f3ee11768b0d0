import json

import pytest
import torch

from qvggt.api import self_test
from qvggt.api.self_test import GOLDEN, TOLERANCES, Difference, golden_answers, run_self_test
from qvggt.backends.cpu import CpuBackend


def test_run_self_test__passes_in_every_mode():
    told = []
    result = run_self_test(lambda stage, share: told.append((stage, share)))
    assert result.error == ""
    assert result.quantized
    assert [check.compute for check in result.checks if check.device == "cpu"] == list(TOLERANCES)
    assert all(check.passed and not check.error for check in result.checks)
    assert result.passed
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert told[1] == ("self test, float32 on cpu", 0.2)


def test_the_stored_answers_are_those_of_this_code():
    stored, found = json.loads(GOLDEN.read_text()), golden_answers()
    assert stored["checkpoint"] == found["checkpoint"]
    for name in ("cam_from_world", "depth"):
        torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(stored[name]), atol=2e-4, rtol=2e-4)
    assert GOLDEN.stat().st_size < 20_000


def test_run_self_test__a_backend_that_multiplies_wrong_fails(monkeypatch):
    linear = CpuBackend.linear
    monkeypatch.setattr(CpuBackend, "linear", lambda *arguments: 1.02 * linear(*arguments))
    result = run_self_test()
    assert not result.passed
    assert not next(check for check in result.checks if check.compute == "float32").passed


def test_run_self_test__an_error_in_one_mode_is_told(monkeypatch):
    def load(packed, device, mode):
        if mode == "int8":
            raise RuntimeError("illegal instruction\nmore")
        return usual(packed, device, mode)

    usual = self_test.load
    monkeypatch.setattr(self_test, "load", load)
    result = run_self_test()
    *others, last = (check for check in result.checks if check.device == "cpu")
    assert (last.compute, last.error, last.difference, last.passed) == ("int8", "illegal instruction", None, False)
    assert all(check.passed for check in others)
    assert not result.passed


def test_run_self_test__other_bits_fail(monkeypatch):
    monkeypatch.setattr(self_test, "_SCHEME", self_test.Scheme(5, 64))
    result = run_self_test()
    assert not result.quantized
    assert not result.passed


def test_run_self_test__a_broken_installation_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(self_test, "GOLDEN", tmp_path / "missing.json")
    result = run_self_test()
    assert "install qvggt again" in result.error
    assert not result.passed


@pytest.mark.parametrize("broken", [float("nan"), 1.0])
def test_within__not_a_number_is_not(broken):
    assert Difference(0.0, 0.0, 0.0).within(Difference(0.1, 0.1, 0.1))
    assert not Difference(broken, 0.0, 0.0).within(Difference(0.1, 0.1, 0.1))
    assert not Difference(0.0, broken, 0.0).within(Difference(0.1, 0.1, 0.1))
    assert not Difference(0.0, 0.0, broken).within(Difference(0.1, 0.1, 0.1))
