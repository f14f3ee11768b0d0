"""What a method is, and what it works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from qvggt.calibration.run import Propagation, UnitContext
from qvggt.calibration.task import Task
from qvggt.calibration.unit_store import UnitResult, UnitStore
from qvggt.methods.common import refuse_budget, uniform_schemes
from qvggt.model import VGGT
from qvggt.options import QuantizeOptions, TokenClass, parse_token_classes
from qvggt.quant.affine import QuantizedTensor
from qvggt.quant.scheme import LayerScheme, LayerShape, Scheme
from qvggt.types import LayerId, OnProgress, QvggtError


@dataclass(frozen=True)
class Bench:
    """What a method works with.

    Attributes:
        model: the float model at first; holds quantized values after the pass.
        teacher: the float model, untouched, if the method needs it.
        shapes: of every layer that can be quantized.
        task: the objective on the scenes that statistics are taken from.
        held_out: the objective on scenes that no statistics are taken from.
        store: where results are kept as they come, or None.
        on_progress: progress.
    """

    model: VGGT
    teacher: VGGT | None
    shapes: Mapping[LayerId, LayerShape]
    task: Task
    held_out: Task
    store: UnitStore | None = None
    on_progress: OnProgress = lambda what, share: None


@dataclass(frozen=True)
class Plan:
    """Which layer is to be stored how.

    Attributes:
        schemes: of every layer that does not simply keep the float type.
        sensitivities: what was measured for it, JSON-ready.
        notes: of the choice, JSON-ready.
    """

    schemes: Mapping[LayerId, LayerScheme]
    sensitivities: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A quantized model; its float parameters are those of the bench's model.

    Attributes:
        weights: integers by layer.
        stages: which stages were accepted or rejected and why, JSON-ready.
    """

    weights: Mapping[LayerId, QuantizedTensor]
    stages: Mapping[str, Any] = field(default_factory=dict)

    def with_stage(self, name: str, notes: Mapping[str, Any]) -> Outcome:
        """Return the outcome with one stage's notes more."""
        return replace(self, stages={**self.stages, name: notes})


class Method:
    """One way to quantize. A subclass needs no more than ``quantize_unit``.

    Attributes:
        summary: half a sentence for help texts and tables.
        tokens: classes of tokens whose activations count, as published.
        propagate: which model the inputs of a unit come from, as published.
        stages: its parts that can be left out.
        has_budget: whether it keeps a budget of bits or bytes.
        rounds_activations: whether it rounds activations.

    Args:
        options: the user's.

    Raises:
        QvggtError: the options leave out what is no stage of the method, or rotate layers, which is for a method to do.
    """

    summary: ClassVar[str] = ""
    tokens: ClassVar[str] = "all"
    propagate: ClassVar[Propagation] = "quantized"
    stages: ClassVar[tuple[str, ...]] = ()
    has_budget: ClassVar[bool] = False
    rounds_activations: ClassVar[bool] = False

    def __init__(self, options: QuantizeOptions) -> None:
        unknown = sorted(set(options.without) - set(self.stages))
        if unknown:
            choice = f"choose from {', '.join(self.stages)}" if self.stages else "this method has none"
            raise QvggtError(f"there is no stage {unknown[0]!r} to leave out: {choice}")
        if not self.has_budget:
            refuse_budget(options)
        if options.activation_bits and not self.rounds_activations:
            raise QvggtError("this method leaves activations floating: choose smoothquant or quarot to round them")
        if isinstance(options.scheme, Scheme) and options.scheme.rotation:
            raise QvggtError("a calibrated method rotates layers by itself or not at all: choose quarot for rotation")
        self.options = options

    @property
    def token_classes(self) -> tuple[TokenClass, ...]:
        """Classes of tokens whose activations count: the user's choice, or the method's own."""
        return parse_token_classes(self.options.tokens or self.tokens)

    @property
    def needs_teacher(self) -> bool:
        """Whether the float model is kept beside the one that is quantized, which takes the memory of its weights."""
        return False

    def prepare(self, model: VGGT) -> None:
        """Give a float model other weights with which it says the same; by default none.

        What is decided here must follow from the weights alone, so that an interrupted run decides the same again.
        """

    def plan(self, bench: Bench) -> Plan:
        """Choose a scheme for every layer; by default the user's for all."""
        return Plan(uniform_schemes(bench.shapes, self.options))

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Return integers for every layer in ``context.schemes``, leaving the model as it is."""
        raise NotImplementedError

    def finish(self, bench: Bench, outcome: Outcome) -> Outcome:
        """Do what needs the whole quantized model; by default nothing."""
        return outcome
