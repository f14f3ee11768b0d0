"""A test of the contract of a quantization method, for packages that bring one (docs/extending.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from qvggt.calibration.run import UnitContext
from qvggt.calibration.unit_store import UnitResult
from qvggt.checkpoint.folder import CARD, FILES, open_checkpoint
from qvggt.checkpoint.write import save_checkpoint, write_checkpoint
from qvggt.methods.base import Method
from qvggt.methods.run import quantize_calibrated
from qvggt.model import VGGT, VGGTConfig
from qvggt.nn.convert import convert, model_layers
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.options import CalibrationOptions, QuantizeOptions
from qvggt.quant.recipe import Provenance
from qvggt.quant.scheme import Scheme
from qvggt.types import OnProgress, QvggtError
from qvggt.weights.open import FloatWeights, load_float
from qvggt.weights.pretrained import SAMPLE_SCENE
from qvggt.weights.seeded import SeededSource

SMALL = VGGTConfig(
    image_size=28, patch_size=14, embed_dim=32, vit_depth=1, vit_heads=2, depth=2, heads=2, register_tokens=1,
    camera_trunk_depth=1, camera_heads=2, dpt_features=8, dpt_channels=(8, 8, 8, 8), dpt_layers=(0, 0, 1, 1),
)  # fmt: skip
"""An architecture so small that most methods quantize it in a second or two."""

OPTIONS = QuantizeOptions(
    Scheme(4, 16), Scheme(8, 16), calibration=CalibrationOptions(str(SAMPLE_SCENE), scenes=3, frames=2)
)
"""Schemes that fit ``SMALL``, and photographs to calibrate on."""

_SOURCE = Provenance("seeded:small", method="method under test")


class _Stop(Exception):
    """Interrupts a quantization."""


def check_method(method: type[Method], options: QuantizeOptions = OPTIONS) -> None:
    """Quantize a small model in several ways, and compare what a method does with the contract.

    A calibrated method quantizes three times, other methods twice. The model has stand-in weights, so that nothing is
    said about accuracy, except that 8 bits change its outputs by less than a tenth.

    Args:
        method: the class.
        options: with a scheme and a calibration that fit ``SMALL``.

    Raises:
        AssertionError: the method breaks the contract; the message says how.
    """
    _check_declaration(method, options)
    with TemporaryDirectory() as folder:
        first, again = Path(folder, "first"), Path(folder, "again")
        model = _quantize(method, options)
        save_checkpoint(model, first)
        if method.needs_calibration:
            save_checkpoint(_resumed(method, options, Path(folder, "work")), again)
            what = "two runs of the same seed, one of which was interrupted and resumed, must give the same bytes"
        else:
            chosen = method(options)
            recipe = chosen.recipe(model_layers(SMALL), _SOURCE)
            write_checkpoint(again, SMALL, recipe, chosen.stream(SeededSource(SMALL), SMALL, recipe))
            what = "stream must yield the tensors that the recipe makes of the model in memory"
        for name in set(FILES) - {CARD}:
            _require((first / name).read_bytes() == (again / name).read_bytes(), f"{what}; {name} differs")
        _check_loaded(model, open_checkpoint(first).load())
    if isinstance(options.scheme, Scheme):
        _check_8_bits(_quantize(method, replace(options, scheme=replace(options.scheme, bits=8))))


def _require(kept: bool, sentence: str) -> None:
    if not kept:
        raise AssertionError(sentence)


def _check_declaration(method: type[Method], options: QuantizeOptions) -> None:
    _require(isinstance(method, type) and issubclass(method, Method), "a method derives from qvggt.methods.Method")
    _require(bool(method.summary), "a method has a summary, which tables show")
    _require(bool(method(options).token_classes), "a method names token classes")
    if not method.needs_calibration:
        return
    try:
        method(replace(options, without=("no such stage",)))
    except QvggtError:
        return
    raise AssertionError("a method refuses to leave out a stage that it does not have: call Method.__init__")


def _model() -> VGGT:
    return load_float(FloatWeights(_SOURCE.source, SMALL, SeededSource(SMALL)))


def _quantize(
    method: type[Method],
    options: QuantizeOptions,
    work: Path | None = None,
    on_progress: OnProgress = lambda stage, share: None,
) -> QuantizedVGGT:
    chosen = method(options)
    if not chosen.needs_calibration:
        return convert(_model(), chosen.recipe(model_layers(SMALL), _SOURCE)).eval()
    chosen.quantize_unit = partial(_watched, chosen.quantize_unit)
    return quantize_calibrated(_model(), chosen, _SOURCE, work, on_progress=on_progress)[0]


def _resumed(method: type[Method], options: QuantizeOptions, work: Path) -> QuantizedVGGT:
    """Return the result of a run that was interrupted after a few units, and resumed."""

    def interrupt(stage: str, share: float) -> None:
        if stage.startswith("quantizing ") and share > 0.5:
            raise _Stop

    try:
        _quantize(method, options, work, interrupt)
    except _Stop:
        return _quantize(method, options, work)
    raise AssertionError("a method quantizes every unit of the model")


def _watched(quantize_unit: Callable[[UnitContext], UnitResult], context: UnitContext) -> UnitResult:
    """Quantize a unit and check the result."""
    before = {name: value.clone() for name, value in context.model.state_dict().items()}
    result, unit = quantize_unit(context), context.unit.id
    after = context.model.state_dict()
    changed = [name for name, value in before.items() if name not in after or not torch.equal(value, after[name])]
    _require(not changed, f"quantize_unit must leave the model as it was; {changed[:1]} differs after {unit}")
    missing = sorted(set(context.schemes) ^ set(result.weights))
    _require(not missing, f"quantize_unit must return every layer in context.schemes; {missing[:1]} differs in {unit}")
    for layer, weight in result.weights.items():
        low, high = context.schemes[layer].code_range
        shape = tuple(before[f"{layer}.weight"].shape)
        _require(weight.scheme == context.schemes[layer], f"{layer} must have the scheme in context.schemes")
        _require(weight.codes.dtype == torch.int8, f"codes of {layer} must be int8")
        _require(tuple(weight.codes.shape) == shape, f"codes of {layer} must have the shape of its weight, {shape}")
        inside = low <= int(weight.codes.min()) and int(weight.codes.max()) <= high
        _require(inside, f"codes of {layer} must lie in {low}..{high}")
        _require(weight.grid.scale.dtype == context.scale_dtype, f"scales of {layer} must be {context.scale_dtype}")
        finite = bool(torch.isfinite(weight.grid.scale).all()) and bool((weight.grid.scale > 0).all())
        _require(finite, f"scales of {layer} must be positive and finite")
    for name, value in result.parameters.items():
        fits = name in before and before[name].shape == value.shape
        _require(fits, f"{name} is no parameter of the model, or has another shape")
    return result


def _outputs(model: VGGT) -> dict[str, torch.Tensor]:
    images = torch.rand(1, 2, 3, 28, 28, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        return dict(model(images))


def _check_loaded(model: QuantizedVGGT, loaded: QuantizedVGGT) -> None:
    expected, found = _outputs(model), _outputs(loaded)
    for name, value in expected.items():
        _require(bool(torch.isfinite(value).all()), f"{name} of the quantized model must be finite")
        _require(torch.equal(value, found[name]), f"{name} must be the same after saving and loading")


def _check_8_bits(model: QuantizedVGGT) -> None:
    expected, found = _outputs(_model()), _outputs(model)
    for name, value in expected.items():
        error = float((found[name] - value).norm() / value.norm())
        _require(
            error < 0.1,
            f"8 bits must change {name} by less than 0.1 relative to its norm, and change it by {error:.2f}",
        )
