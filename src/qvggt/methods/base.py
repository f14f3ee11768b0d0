"""The interface of a quantization method, and the values that it works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from qvggt.calibration.data import SceneBatch
from qvggt.calibration.run import Propagation, QuantizationResult, UnitContext
from qvggt.calibration.sensitivity import SensitivityReport
from qvggt.calibration.task import Task
from qvggt.calibration.unit_store import UnitResult
from qvggt.methods.common import refuse_budget, uniform_schemes
from qvggt.model import VGGT, VGGTConfig
from qvggt.options import QuantizeOptions, TokenClass, parse_token_classes
from qvggt.options.messages import did_you_mean
from qvggt.quant.recipe import Provenance, Recipe
from qvggt.quant.scheme import LayerScheme, LayerShape, Scheme
from qvggt.quant.source import TensorSource
from qvggt.types import LayerId, OnProgress, QvggtError

SensitivityCache = MutableMapping[str, SensitivityReport]
"""Measured sensitivities by a fingerprint of everything that they depend on; runs that share it measure once."""


@dataclass(frozen=True)
class MethodContext:
    """Model, calibration tasks and progress for one quantization.

    Attributes:
        model: the float model; its weights take quantized values unit by unit.
        teacher: a copy of the float model that stays unchanged, if the method needs one.
        shapes: shape of every quantizable layer.
        task: the task objective on the calibration scenes.
        held_out: the task objective on held-out scenes.
        further: scenes beside these, if the method asks for them.
        sensitivities: sensitivities measured so far, possibly shared with other quantizations.
        on_progress: called with the stage under way and the share of it done.
    """

    model: VGGT
    teacher: VGGT | None
    shapes: Mapping[LayerId, LayerShape]
    task: Task
    held_out: Task
    further: tuple[SceneBatch, ...] = ()
    sensitivities: SensitivityCache = field(default_factory=dict)
    on_progress: OnProgress = lambda stage, share: None


@dataclass(frozen=True)
class SchemeChoice:
    """The scheme of every layer, and how it was chosen.

    Attributes:
        schemes: scheme of every layer that does not simply keep the float type.
        sensitivities: the measurements behind the choice, JSON-ready.
        notes: further JSON-ready facts about the choice.
    """

    schemes: Mapping[LayerId, LayerScheme]
    sensitivities: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class Method:
    """A quantization method. A calibrated one has to override ``quantize_unit`` only.

    Attributes:
        summary: short description for tables.
        needs_calibration: whether it runs the model on calibration scenes. A method without calibration overrides
            ``recipe`` and ``stream`` instead of ``quantize_unit``.
        tokens: token classes whose activations it uses, as published.
        propagate: which model a unit's inputs come from, as published.
        stages: its parts that can be left out.
        has_budget: whether it observes a budget of bits or bytes.
        rounds_activations: whether it rounds activations.

    Args:
        options: the user's options.

    Raises:
        QvggtError: the method cannot observe the options.
    """

    summary: ClassVar[str] = ""
    needs_calibration: ClassVar[bool] = True
    tokens: ClassVar[str] = "all"
    propagate: ClassVar[Propagation] = "quantized"
    stages: ClassVar[tuple[str, ...]] = ()
    has_budget: ClassVar[bool] = False
    rounds_activations: ClassVar[bool] = False

    def __init__(self, options: QuantizeOptions) -> None:
        self.options = options
        if not self.has_budget:
            refuse_budget(options)
        if self.needs_calibration:
            self._check_calibrated()

    def _check_calibrated(self) -> None:
        """Raise QvggtError if an option of calibrated methods is not one of this method's."""
        options = self.options
        unknown = sorted(set(options.without) - set(self.stages))
        if unknown:
            choice = f"choose from {', '.join(self.stages)}" if self.stages else "this method has none"
            nearest = did_you_mean(unknown[0], self.stages)
            raise QvggtError(f"there is no stage {unknown[0]!r} to leave out: {choice} (--without){nearest}")
        if options.activation_bits and not self.rounds_activations:
            raise QvggtError("this method does not round activations: choose --method smoothquant or quarot for that")
        if isinstance(options.scheme, Scheme) and options.scheme.rotation:
            raise QvggtError("rotation cannot be set in the scheme of a calibrated method: choose --method quarot")

    @property
    def token_classes(self) -> tuple[TokenClass, ...]:
        """Token classes whose activations are used: the user's choice, or the method's own."""
        return parse_token_classes(self.options.tokens or self.tokens)

    @property
    def needs_teacher(self) -> bool:
        """Whether a copy of the float model is kept, which takes the memory of its weights again."""
        return False

    @property
    def further_scenes(self) -> int:
        """Most scenes that are read beside those of the calibration, for tuning."""
        return 0

    def prepare(self, model: VGGT) -> None:
        """Replace a float model's weights by equivalent ones; by default none.

        The result may depend on the weights alone, so that a resumed run repeats it.
        """

    def choose_schemes(self, context: MethodContext) -> SchemeChoice:
        """Choose a scheme for every layer; by default the user's for all."""
        return SchemeChoice(uniform_schemes(context.shapes, self.options))

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Quantize every layer in ``context.schemes``, without changing the model."""
        raise NotImplementedError

    def finish(self, context: MethodContext, result: QuantizationResult) -> QuantizationResult:
        """Improve the whole quantized model; by default nothing."""
        return result

    def recipe(self, shapes: Mapping[LayerId, LayerShape], source: Provenance) -> Recipe:
        """Return the recipe for a model with these layers; only of a method without calibration."""
        raise NotImplementedError

    def stream(self, weights: TensorSource, config: VGGTConfig, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor of the checkpoint, layer by layer; only of a method without calibration."""
        raise NotImplementedError
