import pytest
import torch

import qvggt
from qvggt.checkpoint import open as door
from qvggt.checkpoint.folder import Checkpoint
from qvggt.checkpoint.open import open_float, open_model
from qvggt.model import VGGT
from qvggt.nn.convert import parameter_shapes
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.types import QvggtError
from qvggt.weights.open import FloatWeights

MICRO = "seeded:micro"


def test_float_and_quantized_models_have_one_face(checkpoint, config, recipe):
    opened = {MICRO: open_model(MICRO), str(checkpoint): open_model(checkpoint)}
    for name, model in opened.items():
        assert (model.name, model.config) == (name, config)
        assert model.parameters == sum(tensor.numel() for tensor in VGGT(config).state_dict().values())
        assert all(tensor.is_meta for tensor in model.shell().state_dict().values())
        loaded = model.load()
        assert isinstance(loaded, QuantizedVGGT) == (model.recipe is not None)
        shapes = {key: tensor.shape for key, tensor in loaded.state_dict().items()}
        assert shapes == {key: tensor.shape for key, tensor in model.shell().state_dict().items()}
    assert isinstance(opened[MICRO], FloatWeights)
    assert opened[MICRO].average_bits == 32
    assert isinstance(opened[str(checkpoint)], Checkpoint)
    assert opened[str(checkpoint)].recipe == recipe
    assert opened[str(checkpoint)].average_bits < 16


def test_opening_builds_no_model(checkpoint, config, monkeypatch):
    parameter_shapes(config)
    open_model(checkpoint)

    def build(*_):
        raise AssertionError("a model was built")

    monkeypatch.setattr(VGGT, "__init__", build)
    assert open_model(checkpoint).average_bits > 0
    assert open_model(MICRO).parameters > 0


def test_only_a_float_model_is_a_float_model(checkpoint):
    assert open_float(MICRO).name == MICRO
    with pytest.raises(QvggtError, match="quantized already"):
        open_float(checkpoint)


@pytest.mark.parametrize("verb", ["load", "quantize", "fidelity", "evaluate", "sensitivity"])
def test_every_verb_passes_the_revision_and_looks_the_name_up_with_it(verb, monkeypatch):
    asked = []

    def locate(model, revision=None, on_progress=None):
        asked.append((model, revision))
        raise QvggtError("not here")

    monkeypatch.setattr(door, "locate", locate)
    arguments = {"fidelity": ("org/other", [torch.zeros(28, 28, 3).numpy()])}.get(verb, ())
    with pytest.raises(QvggtError, match="not here"):
        getattr(qvggt, verb)("org/name", *arguments, revision="v2")
    assert asked == [("org/name", "v2")]
