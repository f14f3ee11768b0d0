"""A model so small that every method quantizes it in a second or two, and scenes to calibrate it on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from golden.make_golden import seeded_model
from qvggt.calibration.data import SceneBatch
from qvggt.calibration.run import UnitContext
from qvggt.calibration.statistics import observe
from qvggt.calibration.task import Task
from qvggt.calibration.units import advance, model_units, start
from qvggt.methods import qvggt, scale_search
from qvggt.methods.qvggt import QvggtPlus
from qvggt.methods.registry import METHODS
from qvggt.methods.rtn import Rtn
from qvggt.methods.testing import SMALL
from qvggt.model import VGGT, VGGTConfig
from qvggt.options import CalibrationOptions, QuantizeOptions
from qvggt.quant.recipe import Provenance, Recipe
from qvggt.quant.scheme import LayerScheme, LayerShape, Scheme
from qvggt.quant.source import TensorSource
from qvggt.types import LayerId
from qvggt.weights.pretrained import SAMPLE_SCENE as SAMPLE

MODEL = "seeded:small"
"""Its name, where a test has put it among the presets."""

PHOTOS = CalibrationOptions(str(SAMPLE), scenes=3, frames=2)
ROOMS = CalibrationOptions("rooms", scenes=2, frames=2)
OPTIONS = QuantizeOptions(Scheme(4, 16), Scheme(8, 16), calibration=PHOTOS)


class StateDictSource:
    """Named tensors that are in memory already."""

    def __init__(self, state_dict: Mapping[str, Tensor]) -> None:
        self.state_dict = state_dict

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self.state_dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return tuple(self.state_dict[name].shape)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor."""
        return self.state_dict[name]


CALIBRATED = tuple(name for name, method in METHODS.items() if method.needs_calibration)


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Reduce scales, schemes, scenes and steps that our methods try, so that each takes about a second."""
    patch.setattr(QvggtPlus, "tuning", replace(QvggtPlus.tuning, steps=3))
    patch.setattr(qvggt, "candidate_schemes", lambda base: [base, replace(base, bits=8)])
    patch.setattr(qvggt, "SENSITIVITY_SCENES", 1)
    patch.setattr(qvggt, "SENSITIVITY_FRAMES", 1)
    patch.setattr(scale_search, "_exponents", lambda options: (0.0, 0.5))


def small_model() -> VGGT:
    """Return the float model on stand-in weights."""
    return seeded_model(SMALL)


def scenes(seed: int = 0, count: int = 2) -> SceneBatch:
    """Return scenes of two frames without truth."""
    return SceneBatch(torch.rand(count, 2, 3, 28, 28, generator=torch.Generator().manual_seed(seed)))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@torch.no_grad()
def context_of(
    model: VGGT, batches: Sequence[SceneBatch], unit_id: str, scheme: LayerScheme, task: Task | None = None
) -> UnitContext:
    """Return the context of a unit whose linear layers all have one scheme."""
    states = [start(batch.images) for batch in batches]
    for index, unit in enumerate(model_units(model)):
        if unit.id == unit_id:
            statistics = observe(model, unit, states)
            widths = {layer: model.get_parameter(f"{layer}.weight").shape[1] for layer in unit.linear}
            schemes = {layer: scheme.for_width(width) for layer, width in widths.items() if isinstance(scheme, Scheme)}
            return UnitContext(model, unit, index, states, statistics, schemes, task)
        states = [advance(model, unit, state) for state in states]
    raise AssertionError(unit_id)


def with_options(**changes: object) -> QuantizeOptions:
    """Return the usual options with some of them changed."""
    return replace(OPTIONS, **changes)


def rtn_recipe(
    shapes: Mapping[LayerId, LayerShape], options: QuantizeOptions | None = None, source: Provenance | None = None
) -> Recipe:
    """Return RTN's recipe for a model with these layers."""
    return Rtn(options or QuantizeOptions()).recipe(shapes, replace(source or Provenance(), method="rtn"))


def rtn(source: TensorSource, config: VGGTConfig, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of the checkpoint that RTN makes by a recipe."""
    return Rtn(QuantizeOptions()).stream(source, config, recipe)
