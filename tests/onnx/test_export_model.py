"""Models as ONNX files, run by ONNX Runtime."""

import pytest

import qvggt
from qvggt import OnnxOptions, QvggtError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

OUTPUTS = ["pose_enc", "depth", "depth_conf", "world_points", "world_points_conf"]
SMALL = OnnxOptions((56, 42), check_frames=(1, 2, 8))


def test_export_model__a_float_model_with_any_number_of_frames(tmp_path):
    report = qvggt.export_model("seeded:micro", tmp_path / "m.onnx", SMALL)
    assert (report.size, report.data_path) == ((56, 42), None)
    assert report.bytes == (tmp_path / "m.onnx").stat().st_size
    assert [check.frames for check in report.checks] == [1, 2, 8]
    assert [list(check.differences) for check in report.checks] == [OUTPUTS] * 3
    assert max(value for check in report.checks for value in check.differences.values()) < 5e-6
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_export_model__packed_layers_stay_packed(tmp_path):
    scheme = qvggt.Scheme(bits=4, group_size=16, symmetric=False)
    qvggt.quantize_to("seeded:micro", tmp_path / "q", "rtn", qvggt.QuantizeOptions(scheme))
    options = OnnxOptions((56,), ("camera", "depth"), check_frames=(1, 2))
    report = qvggt.export_model(tmp_path / "q", tmp_path / "q.onnx", options)
    assert max(value for check in report.checks for value in check.differences.values()) < 5e-6
    assert "world_points" not in report.checks[0].differences
    found = [node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node]
    assert found.count("MatMulNBits") > 40
    assert found.count("DequantizeLinear") > 20


def test_export_model__refuses_what_cannot_be(tmp_path):
    with pytest.raises(QvggtError, match="patches of 14 px"):
        qvggt.export_model("seeded:micro", tmp_path / "m.onnx", OnnxOptions((50,)))
    with pytest.raises(QvggtError, match="unknown heads"):
        OnnxOptions(heads=("track",))
    with pytest.raises(QvggtError, match="at least 1"):
        OnnxOptions(check_frames=(0,))
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(QvggtError, match="--overwrite"):
        qvggt.export_model("seeded:micro", tmp_path / "m.onnx", OnnxOptions((56,)))
    assert (tmp_path / "m.onnx").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_export_model__names_the_packages_that_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(QvggtError, match=r"onnx and onnxscript.*qvggt\[onnx\]"):
        qvggt.export_model("seeded:micro", tmp_path / "m.onnx", OnnxOptions(check_frames=()))
