from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from qvggt.calibration.unit_store import SETTINGS, UnitResult, UnitStore
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.scheme import Scheme
from qvggt.types import BlockId, LayerId, QvggtError

UNIT, QKV, CONV = BlockId("frame/3"), LayerId("a.qkv"), LayerId("a.conv")
SETTING = {"method": "gptq", "bits": 4, "classes": ["patch"]}


def result():
    generator = torch.Generator().manual_seed(0)
    weights = {
        QKV: quantize(torch.randn(6, 32, generator=generator) + 1, Scheme(4, 16, symmetric=False, rotation=True)),
        CONV: quantize(torch.randn(4, 3, 3, 3, generator=generator), Scheme(8), scale_dtype=torch.float32),
    }
    parameters = {"a.norm1.weight": torch.randn(32), "a.norm1.bias": torch.randn(32, dtype=torch.float64)[::2]}
    notes = {"a.qkv": {"exponent": 0.35, "task": float("inf")}}
    return UnitResult(weights, parameters, notes)


def assert_same(found, expected):
    assert list(found.weights) == list(expected.weights)
    for layer, weight in expected.weights.items():
        other = found.weights[layer]
        assert other.scheme == weight.scheme
        assert torch.equal(other.codes, weight.codes)
        assert other.codes.dtype == weight.codes.dtype
        assert torch.equal(other.grid.scale, weight.grid.scale)
        assert other.grid.scale.dtype == weight.grid.scale.dtype
        assert (other.grid.zero_point is None) == (weight.grid.zero_point is None)
        assert torch.equal(dequantize(other), dequantize(weight))
    assert list(found.parameters) == list(expected.parameters)
    assert all(torch.equal(found.parameters[name], value) for name, value in expected.parameters.items())
    assert found.notes == expected.notes


def test_what_is_kept_comes_back_whole(tmp_path):
    kept = result()
    assert kept.weights[QKV].grid.zero_point is not None
    UnitStore(tmp_path, SETTING).put(UNIT, kept)
    assert_same(UnitStore(tmp_path, SETTING).get(UNIT), kept)


def test_a_unit_without_anything_is_a_result_too(tmp_path):
    store = UnitStore(tmp_path, SETTING)
    store.put(UNIT, UnitResult({}))
    assert store.get(UNIT) == UnitResult({})


def test_what_was_not_kept_is_none(tmp_path):
    store = UnitStore(tmp_path, SETTING)
    store.put(UNIT, result())
    assert store.get(BlockId("frame/30")) is None
    assert store.get(BlockId("global/3")) is None


def test_units_do_not_share_a_file(tmp_path):
    store = UnitStore(tmp_path, SETTING)
    for unit in ("patch_embed", "patch_embed/0", "frame/1", "frame/11", "camera"):
        store.put(BlockId(unit), UnitResult({}, notes={"unit": unit}))
    for unit in ("patch_embed", "patch_embed/0", "frame/1", "frame/11", "camera"):
        assert store.get(BlockId(unit)).notes == {"unit": unit}


def test_the_last_result_counts(tmp_path):
    store = UnitStore(tmp_path, SETTING)
    store.put(UNIT, UnitResult({}, notes={"n": 1}))
    last = result()
    store.put(UNIT, last)
    assert_same(store.get(UNIT), last)


@pytest.mark.parametrize("other", [{}, {**SETTING, "bits": 3}, {**SETTING, "seed": 0}])
def test_other_settings_are_refused(tmp_path, other):
    UnitStore(tmp_path, SETTING).put(UNIT, result())
    with pytest.raises(QvggtError, match="other settings"):
        UnitStore(tmp_path, other)
    assert UnitStore(tmp_path, dict(reversed(SETTING.items()))).get(UNIT) is not None  # their order is no setting


@pytest.mark.parametrize("cut", [0, 1, 8, 100, -1])
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path, cut):
    store = UnitStore(tmp_path, SETTING)
    store.put(UNIT, result())
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:cut])
    assert store.get(UNIT) is None
    store.put(UNIT, result())
    assert store.get(UNIT) is not None


@pytest.mark.parametrize(
    "about",
    [
        "{}",
        "no json",
        '{"schemes": {"a.qkv": {"bits": 4}}, "parameters": [], "notes": {}}',
        '{"schemes": {"a.qkv": {"bits": 40}}, "parameters": [], "notes": {}}',
        '{"schemes": {}, "parameters": ["a.bias"], "notes": {}}',
    ],
)
def test_a_file_of_another_form_is_as_if_it_were_not_there(tmp_path, about):
    store = UnitStore(tmp_path, SETTING)
    save_file({"x": torch.zeros(1)}, tmp_path / "frame-3.safetensors", {"about": about})
    assert store.get(UNIT) is None
    save_file({"x": torch.zeros(1)}, tmp_path / "frame-3.safetensors")
    assert store.get(UNIT) is None


def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch):
    store = UnitStore(tmp_path, SETTING)
    store.put(UNIT, UnitResult({}, notes={"n": 1}))

    write = Path.write_bytes

    def interrupted(path, data):
        write(path, data[:9])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.put(UNIT, result())
    assert store.get(UNIT).notes == {"n": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frame-3.safetensors", SETTINGS]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_put_says_that_the_disk_is_full(tmp_path, monkeypatch):
    store = UnitStore(tmp_path, SETTING)
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: write(Path("/dev/full"), data))
    with pytest.raises(QvggtError, match="the disk is full"):
        store.put(UNIT, result())


def test_a_result_moves_to_a_device_and_stays_what_it_is():
    """Units are quantized where the model is, and stored from there."""
    kept = result()
    moved = kept.to(torch.device("meta"))
    grid = moved.weights[QKV].grid
    tensors = (moved.weights[QKV].codes, grid.scale, grid.zero_point, *moved.parameters.values())
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.weights.keys(), moved.notes) == (kept.weights.keys(), kept.notes)
    assert_same(kept.to(torch.device("cpu")), kept)
