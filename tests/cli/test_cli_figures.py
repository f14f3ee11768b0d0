"""The figures that commands print, and write as JSON."""

import json

import pytest
from commands import MODEL

UNITS = ("_bytes", "_bits", "_px", "_seconds", "seconds", "parameters", "frames")


def figures(path):
    return json.loads(path.read_text())


def measured(values):
    """Return the keys whose values are measured, rather than names or lists."""
    return {key for key, value in values.items() if isinstance(value, (int, float))}


def test_reconstruct(qvggt, photos, tmp_path):
    done = qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out", "--json", tmp_path / "deep" / "x.json")
    assert (done.status, done.err) == (0, "")
    values = figures(tmp_path / "deep" / "x.json")
    assert all(key.endswith(UNITS) for key in measured(values))
    assert (values["model"], values["frames"], values["height_px"], values["width_px"]) == (MODEL, 2, 56, 56)
    assert all(values[f"{stage}_seconds"] > 0 for stage in ("load", "reconstruct", "write"))
    assert 50e6 < values["peak_memory_bytes"] < 1e12
    assert all((tmp_path / "out" / name).is_file() for name in values["files"])
    assert f"2 frames of 56x56 px with {MODEL}" in done.out
    assert f"{tmp_path / 'out'}: prediction.npz, result.json, points.ply" in done.out


def test_quantize_and_inspect(qvggt, tmp_path):
    output = tmp_path / "4bit"
    done = qvggt("quantize", MODEL, "-o", output, "--group-size", "32", "--json", tmp_path / "x.json")
    assert (done.status, done.err) == (0, "")
    values = figures(tmp_path / "x.json")
    assert all(key.endswith(UNITS) for key in measured(values))
    assert values["float32_bytes"] == 4 * values["parameters"]
    assert values["checkpoint_bytes"] == sum(path.stat().st_size for path in output.glob("[!.R]*"))
    assert 4 < values["average_bits"] < 8
    assert values["seconds"] > 0
    assert str(output) in done.out

    inspected = qvggt("inspect", output, "--verify", "--json", tmp_path / "y.json")
    assert (inspected.status, inspected.err) == (0, "")
    seen = figures(tmp_path / "y.json")
    for key in ("parameters", "average_bits", "checkpoint_bytes"):
        assert seen[key] == values[key]
    assert sum(layer["parameters"] for layer in seen["layers"]) == seen["parameters"]
    assert 8 * sum(layer["bytes"] for layer in seen["layers"]) == pytest.approx(
        seen["average_bits"] * seen["parameters"]
    )
    assert seen["provenance"]["method"] == "rtn"
    assert seen["provenance"]["source"] == MODEL
    assert seen["verified_tensors"] > 100


def test_inspect_shows_parts_or_layers_in_full(qvggt, intact_checkpoint):
    parts = qvggt("inspect", intact_checkpoint).out
    for part in ("frame linear", "global linear", "camera_head linear", "depth_head conv2d", "tokens other"):
        assert part in parts
    layers = qvggt("inspect", intact_checkpoint, "--layers").out
    assert " aggregator.frame_blocks.0.attn.qkv " in layers
    assert "…" not in layers
    assert len(layers) > len(parts)


@pytest.mark.parametrize(
    ("options", "files"),
    [
        (["--heads", "camera"], {"prediction.npz", "result.json", "scene.glb", "cameras.json", "overview.png"}),
        (
            ["--points-from", "head"],
            {"prediction.npz", "result.json", "points.ply", "scene.glb", "cameras.json", "overview.png"},
        ),
    ],
)
def test_heads_choose_what_is_written(qvggt, photos, tmp_path, options, files):
    done = qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out", *options)
    assert done.status == 0
    names = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".qvggt")}
    assert files <= names <= files | {"depth"}
