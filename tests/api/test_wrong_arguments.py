"""Wrong arguments of every public verb, and of every options class, are QvggtErrors and nothing else."""

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import qvggt
from qvggt import options
from qvggt.types import QvggtError

MODEL = "seeded:micro"
WRONG = (
    None, True, object(), b"bytes", -1, 0, 10**30, 1.5, float("nan"), float("inf"), 1j, "nonsense", "", "nul\0",
    "a" * 5000, Path("nowhere"), Path(), [], [None], ["nonsense"], (1, 2), {}, {"a": 1}, {1}, np.zeros(3),
    np.zeros((0, 4, 4, 3)), np.full((1, 56, 56, 3), np.nan), torch.zeros(2, 2),
)  # fmt: skip


class Reached(Exception):
    """The arguments were accepted, and the work would begin."""


def reached(*_, **__):
    raise Reached


@pytest.fixture(scope="module")
def model():
    return qvggt.load(MODEL, "cpu", "float32")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "micro"
    qvggt.quantize_to(MODEL, folder, options=qvggt.QuantizeOptions(qvggt.Scheme(4, 32)))
    return folder


@pytest.fixture
def valid(model, checkpoint, room, tmp_path):
    """Return arguments of each verb with which it would begin its work."""
    images = np.zeros((2, 56, 56, 3), np.uint8)
    known = options.KnownCameras(focal=50.0)
    (tmp_path / "captures").mkdir()
    return {
        "load": {"model": MODEL},
        "reconstruct": {"model": model, "images": images},
        "reconstruct_scenes": {"model": model, "scenes": tmp_path / "captures", "output": tmp_path / "out"},
        "save": {"model": model, "folder": tmp_path / "out"},
        "quantize": {"model": MODEL},
        "quantize_to": {"model": MODEL, "folder": tmp_path / "out"},
        "push": {"folder": checkpoint, "repo": "me/micro"},
        "evaluate": {"model": model},
        "compare": {"model": MODEL, "store": tmp_path / "store"},
        "fidelity": {"model": model, "other": model, "images": images},
        "sensitivity": {"model": model},
        "attention_sensitivity": {"model": model},
        "export": {"result": room, "folder": tmp_path / "out", "format": "ply"},
        "refine": {"prediction": room, "images": images},
        "with_known_cameras": {"prediction": room, "known": known},
        "to_meters": {"prediction": room, "scale": f"{room.names[0]}:{room.names[1]}=1m"},
        "save_prediction": {"prediction": room, "path": tmp_path / "out.npz"},
        "load_prediction": {"path": tmp_path / "none.npz"},
        "align": {"prediction": room, "reference": room},
        "transformed": {"prediction": room, "by": qvggt.Similarity(1.0, np.eye(3), np.zeros(3))},
        "scaled": {"prediction": room, "factor": 2.0},
        "progress_bar": {},
        "doctor": {"quick": True},
        "export_model": {"model": MODEL, "path": tmp_path / "out.onnx"},
    }


@pytest.fixture
def no_work(monkeypatch):
    """Stop verbs where their work begins."""
    for place in (
        "reconstruct.open_model", "reconstruct.predict_windows", "quantize.open_float", "evaluate.evaluate_plan",
        "compare.subject_of", "fidelity.predict", "sensitivity.load_calibration", "export.write_format",
        "refine.refine_prediction", "doctor.read_memory", "export_model.load", "push._prepare",
        "reconstruct_scenes.map_scenes",
    ):  # fmt: skip
        monkeypatch.setattr(f"qvggt.api.{place}", reached)
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")


VERBS = sorted(name for name in qvggt.__all__ if inspect.isfunction(getattr(qvggt, name)))
CLASSES = sorted(
    (
        owner
        for owner in (getattr(options, name) for name in options.__all__)
        if isinstance(owner, type) and dataclasses.is_dataclass(owner)
    ),
    key=lambda owner: owner.__name__,
)


def test_every_verb_is_tried(valid):
    assert set(valid) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.usefixtures("no_work")
def test_a_wrong_argument_of_a_verb(verb, valid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, unexpected = getattr(qvggt, verb), []
    for name in inspect.signature(function).parameters:
        for value in WRONG:
            try:
                function(**{**valid[verb], name: value})
            except (QvggtError, Reached):
                continue
            except Exception as error:
                unexpected.append(f"{name}={value!r:.40}: {type(error).__name__}: {error!s:.80}")
    assert unexpected == []


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.usefixtures("no_work")
def test_no_argument_takes_just_anything(verb, valid):
    for name in inspect.signature(getattr(qvggt, verb)).parameters:
        with pytest.raises(QvggtError):
            getattr(qvggt, verb)(**{**valid[verb], name: object()})


BASES = {
    "WindowOptions": {"frames": 8},
    "BenchOptions": {"models": ("nano",)},
    "ScaleOptions": {"gps": True},
    "KnownDistance": {"first": options.Place("a"), "second": options.Place("b"), "meters": 1.0},
    "Place": {"frame": "a"},
}  # fmt: skip
"""Fields without a default."""


@pytest.mark.parametrize("owner", CLASSES, ids=lambda owner: owner.__name__)
def test_a_wrong_value_of_an_option(owner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unexpected, base = [], BASES.get(owner.__name__, {})
    owner(**base)
    for field in dataclasses.fields(owner):
        for value in WRONG:
            try:
                owner(**{**base, field.name: value})
            except QvggtError:
                continue
            except Exception as error:
                unexpected.append(f"{field.name}={value!r:.40}: {type(error).__name__}: {error!s:.80}")
        with pytest.raises(QvggtError):
            owner(**{**base, field.name: object()})
    assert unexpected == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frames": "8"}, "frames must be a whole number or None, got '8'"),
        ({"windows": 8}, "windows must be WindowOptions or None, got 8"),
        ({"heads": "colour"}, "colour"),
        ({"images": np.zeros((4, 4, 5))}, "expected"),
        ({"images": np.full((4, 4, 3), 255.0)}, "floats in 0..1"),
    ],
)
def test_the_message_names_the_argument(model, arguments, words):
    with pytest.raises(QvggtError) as raised:
        qvggt.reconstruct(**{"model": model, "images": np.zeros((8, 8, 3)), **arguments})
    assert words in str(raised.value)
