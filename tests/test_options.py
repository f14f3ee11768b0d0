"""Options: impossible values are refused where they are given, and import is free of torch."""

import subprocess
import sys

import pytest

from qvggt.options import (
    BenchOptions,
    CalibrationOptions,
    CompareOptions,
    ExportOptions,
    FormatOptions,
    ImageOptions,
    InferenceOptions,
    KnownCameras,
    KnownDistance,
    LoadOptions,
    Place,
    QuantizeOptions,
    RunOptions,
    ScaleOptions,
    Selection,
    SensitivityOptions,
    WindowOptions,
    check_heads,
    parse_token_classes,
)
from qvggt.quant.scheme import FloatScheme
from qvggt.types import QvggtError

REFUSED = [
    (LoadOptions, {"compute": "int4"}, "int4.*auto or float32 or bfloat16"),
    (LoadOptions, {"global_attention": "some"}, "some.*exact or merged"),
    (ImageOptions, {"size": 100}, "multiple of the patch"),
    (ImageOptions, {"mode": "stretch"}, "stretch.*crop or pad"),
    (ImageOptions, {"fps": 0.0}, "above 0"),
    (ImageOptions, {"frames": 0}, "at least 1"),
    (WindowOptions, {"frames": 1}, "at least 2"),
    (WindowOptions, {"frames": 4, "overlap": 4}, "1 to 3"),
    (InferenceOptions, {"dense_frames": 0}, "at least 1"),
    (InferenceOptions, {"windows": 2}, "WindowOptions.*2"),
    (InferenceOptions, {"memory_bytes": 0}, "above 0"),
    (InferenceOptions, {"chunk_tokens": 0}, "at least 1"),
    (ExportOptions, {"points_from": "x"}, "x.*depth or head"),
    (ExportOptions, {"max_points": 0}, "at least 1"),
    (ExportOptions, {"drop_percent": 101}, "0..100"),
    (ExportOptions, {"unit": "inch"}, "inch.*model or meter"),
    (KnownDistance, {"first": Place("a"), "second": Place("b"), "meters": float("inf")}, "finite length above 0"),
    (KnownDistance, {"first": Place("a"), "second": Place("a"), "meters": 1.0}, "two places"),
    (ScaleOptions, {}, "one kind of source, got 0"),
    (ScaleOptions, {"gps": True, "positions": "p.csv"}, "one kind of source, got 2"),
    (KnownCameras, {"focal": -3.0}, "above 0.*--focal"),
    (KnownCameras, {"poses": "p.txt", "rig": "rig.json"}, "--poses or --rig"),
    (FormatOptions, {"resolution": "huge"}, "huge.*original or processed"),
    (FormatOptions, {"depth_files": "jpg"}, "jpg.*png or npy or exr"),
    (FormatOptions, {"max_points": 0}, "at least 1.*--max-points"),
    (FormatOptions, {"drop_percent": -1}, "0..100"),
    (CalibrationOptions, {"scenes": 1}, "at least 2"),
    (QuantizeOptions, {"tokens": "patch+sky"}, "sky.*camera, register, patch"),
    (QuantizeOptions, {"supervision": "none"}, "truth or teacher"),
    (QuantizeOptions, {"average_bits": 4.0, "max_bytes": 1}, "one of them"),
    (CompareOptions, {"methods": ()}, "at least one method"),
    (CompareOptions, {"bits": (9,)}, "2 to 8"),
    (CompareOptions, {"base": QuantizeOptions(FloatScheme())}, "integer weights"),
    (SensitivityOptions, {"schemes": ()}, "at least one width"),
    (SensitivityOptions, {"rounding": "up"}, "nearest or second-order"),
    (Selection, {"frames": 4, "every": 2}, "exclude each other"),
    (RunOptions, {"engine": "spark"}, "local or ray"),
    (RunOptions, {"threads": 0}, "at least one thread"),
    (BenchOptions, {"models": ()}, "at least one model"),
    (BenchOptions, {"models": ("nano",), "repeats": 0}, "at least 1"),
]


@pytest.mark.parametrize(("kind", "values", "words"), REFUSED, ids=lambda value: getattr(value, "__name__", None))
def test_options_refuse_impossible_values(kind, values, words):
    with pytest.raises(QvggtError, match=words):
        kind(**values)


def test_known_distance_of():
    near = KnownDistance(Place("a b.jpg", (1.5, 20.0)), Place("video.mp4#12"), 0.8)
    assert KnownDistance.of("a b.jpg@1.5,20:video.mp4#12=80 cm") == near
    assert KnownDistance.of("a:b=1e-1m").meters == 0.1
    for text in ("a:b", "a:b=3", "a=3m", "a:b:c=3m", ":b=3m", "a:b=-3m"):
        with pytest.raises(QvggtError, match="expected two frames"):
            KnownDistance.of(text)


def test_scale_options_of():
    assert ScaleOptions.of(["a.jpg=x/d.png", "b.jpg=e.npy"]).depths == (("a.jpg", "x/d.png"), ("b.jpg", "e.npy"))
    assert ScaleOptions.of(["p.csv"], align_world=True) == ScaleOptions(positions="p.csv", align_world=True)
    assert ScaleOptions.of(["gps"]).gps
    with pytest.raises(QvggtError, match=r"positions\.csv"):
        ScaleOptions.of(["p.csv", "q.csv"])


def test_known_cameras_of():
    assert KnownCameras.of("1500") == KnownCameras(focal=1500.0)
    assert KnownCameras.of("cameras.txt").focal == "cameras.txt"
    assert KnownCameras.of(None).focal is None


def test_window_options_of__an_overlap_needs_a_window():
    assert WindowOptions.of(None) is None
    assert WindowOptions.of(8, 2) == WindowOptions(8, 2)
    with pytest.raises(QvggtError, match="--window"):
        WindowOptions.of(None, 2)
    assert WindowOptions.of(8, close_loops=True) == WindowOptions(8, close_loops=True)
    with pytest.raises(QvggtError, match="--window"):
        WindowOptions.of(None, close_loops=True)


def test_check_heads__a_word_or_an_unknown_head_is_refused():
    check_heads(("camera", "depth"))
    for heads in ("depth", ("camera", "dpeth")):
        with pytest.raises(QvggtError, match="camera, depth, point"):
            check_heads(heads)


def test_parse_token_classes():
    assert parse_token_classes("all") == ("camera", "register", "patch")
    assert parse_token_classes("patch+camera") == ("camera", "patch")


@pytest.mark.process
def test_options_import_without_torch():
    script = "import sys, qvggt.options; print(sorted({'torch', 'PIL', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"
