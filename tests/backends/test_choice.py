"""What ``auto`` stands for, by device, processor and model."""

import pytest
import torch

import qvggt
from qvggt.backends import choice
from qvggt.backends.choice import CPU_SPEEDS, choose, product_seconds, settled_device
from qvggt.files.read import read_json

VGGT_WIDTH = 1024


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    """Return a function that pretends that the processor has some features only."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def pretend(*features, library=None):
        monkeypatch.setattr(choice, "features", lambda: sorted(features))
        monkeypatch.setattr(choice, "has_half_units", lambda dtype: dtype == torch.bfloat16 and "bf16" in str(features))
        monkeypatch.setattr(choice, "unavailable_reason", lambda: library)

    return pretend


@pytest.mark.parametrize(
    ("features", "packed", "floating"),
    [
        (("avx2", "avx512_bf16", "amx_bf16"), "bfloat16", "bfloat16"),
        (("avx2", "avx512_vnni", "avx512_bf16"), "bfloat16", "bfloat16"),
        (("avx2", "avx512_vnni"), "int8", "float32"),
        (("avx2",), "int8", "float32"),
    ],
)
def test_choose__by_features_of_the_cpu(cpu, features, packed, floating):
    cpu(*features)
    assert choose("cpu", "auto", VGGT_WIDTH, True).compute == packed
    assert choose("cpu", "auto", VGGT_WIDTH, False).compute == floating
    assert choose("cpu", "auto", VGGT_WIDTH, True).reason


def test_choose__a_small_model_computes_in_float32(cpu):
    cpu("avx2", "avx512_bf16")
    assert choose("cpu", "auto", 128, True).compute == "float32"


def test_choose__without_the_library_there_are_no_integers(cpu):
    cpu("avx2", library="no compiler")
    assert choose("cpu", "auto", VGGT_WIDTH, True).compute == "float32"


def test_choose__what_is_given_is_taken_without_a_reason(cpu):
    cpu("avx2")
    chosen = choose("cpu", "float", VGGT_WIDTH, True)
    assert (chosen.device, chosen.compute, chosen.reason) == ("cpu", "float32", "")


def test_choose__where_several_are_possible_they_are_measured_once(cpu, monkeypatch, tmp_path):
    cpu("bf16", "neon")
    calls = []

    def measure(mode):
        calls.append(mode)
        return {"float32": 2.0, "bfloat16": 1.0}[mode]

    monkeypatch.setattr(choice, "product_seconds", measure)
    for _ in range(2):
        assert choose("cpu", "auto", VGGT_WIDTH, False).compute == "bfloat16"
    assert calls == ["float32", "bfloat16"]
    (file,) = tmp_path.rglob("compute/*.json")
    assert read_json(file) == {"float32": 2.0, "bfloat16": 1.0}
    file.write_text("{")  # damaged: measured again
    assert choose("cpu", "auto", VGGT_WIDTH, False).compute == "bfloat16"
    assert len(calls) == 4


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_choose__on_a_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose("cuda:1", "auto", 128, True).compute == expected
    assert choose("mps", "auto", 128, True).compute == "float16"


def test_settled_device__a_gpu_that_does_not_work_is_not_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    def fail(*args, **options):
        raise RuntimeError("no driver")

    monkeypatch.setattr(choice.torch, "empty", fail)
    assert settled_device("auto") == "cpu"
    assert settled_device("cuda:3") == "cuda:3"


@pytest.mark.parametrize("mode", ["float32", "bfloat16", "int8"])
def test_product_seconds__is_measured(mode):
    assert 0 < product_seconds(mode) < 60


def test_table__every_kind_of_cpu_has_an_entry_and_says_why():
    assert CPU_SPEEDS[-1].units == ()
    assert all(speed.packed and speed.floating and speed.reason for speed in CPU_SPEEDS)


def test_load__says_what_it_took(caplog):
    with caplog.at_level("DEBUG", "qvggt"):
        qvggt.load("nano")
    assert "float32 on cpu: the model is small" in caplog.text
    caplog.clear()
    with caplog.at_level("DEBUG", "qvggt"):
        qvggt.load("nano", "cpu", "float32")
    assert not caplog.text
