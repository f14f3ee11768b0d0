"""The GPU benchmark on the smallest model and a CPU: every way has a row, and none is fast by being wrong."""

import json

import pytest

import gpu
import gpu_models


def test_every_way_has_a_row(tmp_path, capsys):
    path = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--model", "seeded:micro", "--size", "56", "--frames", "1", "2", "--repeats", "1"]
    assert gpu.main([*arguments, "--json", str(path)]) == 0
    figures = json.loads(path.read_text())
    rows = {(row["way"], row["frames"]): row for row in figures["rows"]}
    assert list(rows) == [(way.title, frames) for way in gpu_models.WAYS for frames in (1, 2)]
    assert figures["environment"]["device"] == "cpu"
    failed = {way for (way, _), row in rows.items() if "reason" in row}
    assert failed == {"W4A16 bfloat16, fused", "W4A16 float16, fused"}
    assert all("needs a CUDA GPU" in rows[way, 1]["reason"] for way in failed)
    assert set(rows["float32", 1]["relative_differences"].values()) == {0}
    for (way, frames), row in rows.items():
        if way not in failed and way != "float32":
            assert 0 < row["relative_differences"]["depth"] < (0.3 if way.startswith("W4") else 0.05), (way, frames)
    assert "W4A8 int8" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main([]) == 1
    assert "no CUDA GPU" in capsys.readouterr().err


def test_measure_models__neighbors_share_a_model(monkeypatch):
    loaded, run = [], []
    monkeypatch.setattr(gpu_models.api, "load", lambda *arguments: loaded.append(arguments) or len(loaded))
    monkeypatch.setattr(
        gpu_models, "measure_way", lambda model, way, load: (run.append((model, load.frames)) or {}, {})
    )
    load = gpu_models.Load(("float", "packed"), "cpu", (1, 8), 56, repeats=1)
    rows = gpu_models.measure_models(load, lambda rows: None)
    assert len(rows) == len(run) == 2 * len(gpu_models.WAYS)
    computes = [(name, compute) for name, _, compute in loaded]
    assert computes == list(dict.fromkeys((("float", "packed")[w.packed], w.compute) for w in gpu_models.WAYS))


@pytest.mark.parametrize("kernels", ["expand", "fused"])
def test_kernels_of__only_these_are_candidates_and_all_are_again_afterwards(monkeypatch, kernels):
    ways = {"expand": lambda: 1, "fused 16 x 32": lambda: 2, "fused 64 x 64": lambda: 3}
    monkeypatch.setattr(gpu_models.CudaBackend, "candidates", lambda *_: ways)
    way = gpu_models.Way("", packed=True, compute="bfloat16", kernels=kernels)
    with gpu_models.kernels_of(way, on_gpu=True):
        found = gpu.CUDA.candidates(None, None, None)
        assert all(name.startswith(kernels) for name in found)
        assert found
    assert gpu.CUDA.candidates(None, None, None) is ways
