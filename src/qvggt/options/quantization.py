"""Options of what quantizes a model: calibration, methods, their comparison, and sensitivity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from qvggt.options.attention import GlobalAttention, attention_json, attention_of, check_depth
from qvggt.options.checks import check_fields
from qvggt.options.choices import (
    COMPARED_METHODS,
    DATASET,
    SENSITIVITY_BITS,
    Granularity,
    HalfType,
    Rounding,
    SensitivityBy,
    Supervision,
    check_choice,
    parse_token_classes,
)
from qvggt.quant.scheme import FloatType, LayerScheme, Scheme
from qvggt.types import AttentionPlan, PathLike, QvggtError


@dataclass(frozen=True)
class CalibrationOptions:
    """Which scenes a model is calibrated on.

    Attributes:
        source: a dataset (``rooms``, ``co3d``, ...), or a folder, glob or video of photographs.
        root: the dataset's folder.
        split: split of the dataset; None for its calibration split, or its training split if it has none.
        scenes: most scenes. Photographs are split into as many groups of ``frames``, in order.
        frames: images per scene, drawn at random.
        seed: random seed of the choice of scenes and frames.

    Raises:
        QvggtError: a value is out of range.
    """

    source: str = DATASET
    root: PathLike | None = None
    split: str | None = None
    scenes: int = 16
    frames: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scenes < 2 or self.frames < 1:
            raise QvggtError(
                f"calibration needs at least 2 scenes of at least 1 frame (some are held out), "
                f"not {self.scenes} of {self.frames} (--calib-scenes, --calib-frames)"
            )


SENSITIVITY_CALIBRATION = CalibrationOptions(scenes=8, frames=4)
"""Scenes that sensitivity is measured on if none are given: each part is measured on all of them, so they are fewer."""


def _check_by(by: SensitivityBy, supervision: Supervision, option: str) -> None:
    """Raise QvggtError if there is no such way to find sensitivities, or if it cannot use the supervision."""
    check_choice("way to find sensitivities", by, SensitivityBy)
    if by == "gradient" and supervision == "truth":
        raise QvggtError(
            "gradients estimate what is lost against the float model, not against ground truth: "
            f"measure that instead ({option} measurement)"
        )


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of every quantization method; uncalibrated methods ignore those from ``tokens`` on.

    Attributes:
        scheme: scheme of linear layers; methods that choose schemes themselves start from it.
        conv: scheme of convolutions. They hold a twentieth of the weights and feed the maps directly: 8 bits cost
            little.
        layers: patterns of the layers to quantize (see ``select_layers``); all others keep ``float_type``.
        float_type: type of everything that is not quantized, and of scales.
        tokens: token classes whose activations count (``all``, ``patch``, ``camera+patch``, ...); None for the
            method's published choice.
        supervision: reference of the task objective: the float model, or the truth if it is known.
        calibration: the scenes.
        activation_bits: bits of activations, for methods that round them; None for the method's published choice.
        average_bits: budget over all linear layers, for methods that choose schemes; None for theirs.
        max_bytes: budget for the whole checkpoint, instead of ``average_bits``.
        sensitivities: a report of ``qvggt sensitivity`` on the same model, for methods that choose schemes; if None
            they make it themselves.
        select_by: how they make it, see ``SensitivityOptions.by``.
        without: stages of a method to leave out, so that their effect can be measured.
        attention_plan: of the global attention, which the checkpoint states; quantization itself runs exact attention.
            A plan, a name in ``ATTENTION_PRESETS``, or a JSON file.
        memory_bytes: most memory for activations; beyond it they are kept in temporary files.

    Raises:
        QvggtError: a token class does not exist, two budgets are given, or gradients are to tell of ground truth.
    """

    scheme: LayerScheme = Scheme()
    conv: LayerScheme = Scheme(bits=8)
    layers: tuple[str, ...] = ("all",)
    float_type: FloatType = "float16"
    tokens: str | None = None
    supervision: Supervision = "teacher"
    calibration: CalibrationOptions = CalibrationOptions()
    activation_bits: int | None = None
    average_bits: float | None = None
    max_bytes: int | None = None
    sensitivities: PathLike | None = None
    select_by: SensitivityBy = "auto"
    without: tuple[str, ...] = ()
    attention_plan: GlobalAttention | None = None
    memory_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        check_fields(self)
        if self.tokens is not None:
            parse_token_classes(self.tokens)
        check_choice("supervision", self.supervision, Supervision)
        _check_by(self.select_by, self.supervision, "--select-by")
        if self.attention_plan is not None and not isinstance(attention_of(self.attention_plan), AttentionPlan):
            raise QvggtError(
                f"expected an attention plan, got {self.attention_plan!r}: give a preset or a file (--attention-plan)"
            )
        if self.average_bits is not None and self.max_bytes is not None:
            raise QvggtError(
                "average bits and bytes are two budgets for one thing: give one of them (--average-bits, --max-bytes)"
            )

    def layers_json(self) -> dict[str, Any]:
        """Return the options that matter to every method, as JSON-ready values."""
        return {
            "scheme": self.scheme.to_json(),
            "conv": self.conv.to_json(),
            "layers": list(self.layers),
            "float_type": self.float_type,
        }

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON-ready values, without calibration scenes, which provenance lists separately."""
        apart = ("calibration", "memory_bytes", "attention_plan")
        values = {name: value for name, value in asdict(self).items() if name not in apart}
        if self.select_by == QuantizeOptions.select_by:
            del values["select_by"]
        measured = None if self.sensitivities is None else str(self.sensitivities)
        plan = {} if self.attention_plan is None else {"attention_plan": attention_json(self.attention_plan)}
        return {**values, "sensitivities": measured, **plan, **self.layers_json()}

    def plan_for(self, depth: int) -> AttentionPlan | None:
        """Return the attention plan for a model with this number of global blocks.

        Raises:
            QvggtError: the plan is for another number.
        """
        if self.attention_plan is None:
            return None
        plan = attention_of(self.attention_plan)
        check_depth(plan, depth)
        assert isinstance(plan, AttentionPlan)
        return plan


@dataclass(frozen=True)
class CompareOptions:
    """Which methods are compared.

    Attributes:
        methods: names in ``qvggt.methods.registry``, other packages' methods too; ``qvggt-task`` and the like are
            methods without some of their stages.
        bits: widths of linear layers' weights, each for every method.
        seeds: random seeds of the choice of calibration scenes; every calibrated method is quantized once per seed.
        base: all other options, the same for all methods; its width and seed are replaced by those above.
        half: types of 16 bits in which the float model is measured too: what half precision alone costs. Published
            code runs VGGT in bfloat16, so that is the default.

    Raises:
        QvggtError: there is nothing to compare, or a width is out of range.
    """

    methods: tuple[str, ...] = COMPARED_METHODS
    bits: tuple[int, ...] = (Scheme.bits,)
    seeds: tuple[int, ...] = (CalibrationOptions.seed,)
    base: QuantizeOptions = QuantizeOptions()
    half: tuple[HalfType, ...] = ("bfloat16",)

    def __post_init__(self) -> None:
        check_fields(self)
        for half in self.half:
            check_choice("half type", half, HalfType)
        for name, values in (("method", self.methods), ("width", self.bits), ("seed", self.seeds)):
            if not values:
                raise QvggtError(f"there is nothing to compare: give at least one {name}")
        if not isinstance(self.base.scheme, Scheme):
            raise QvggtError(
                "methods are compared on integer weights: give a scheme of 2 to 8 bits as the base (--bits)"
            )
        for bits in self.bits:
            replace(self.base.scheme, bits=bits)  # raises for impossible widths

    def to_json(self) -> dict[str, Any]:
        """Return the options that all methods share, as JSON-ready values."""
        calibration = asdict(self.base.calibration)
        root = calibration.pop("root")
        calibration |= {"root": None if root is None else str(root), "seeds": list(dict.fromkeys(self.seeds))}
        del calibration["seed"]
        return {**self.base.to_json(), "bits": list(dict.fromkeys(self.bits)), "calibration": calibration}


def sensitivity_schemes(
    bits: Sequence[int] = SENSITIVITY_BITS, group_size: int = Scheme.group_size, symmetric: bool = Scheme.symmetric
) -> tuple[Scheme, ...]:
    """Return schemes of several widths that clip for the least squared error."""
    return tuple(Scheme(width, group_size, symmetric, "mse") for width in bits)


@dataclass(frozen=True)
class SensitivityOptions:
    """What sensitivity quantizes, and how it measures the loss.

    Attributes:
        schemes: each is tried on every item.
        granularity: quantize a block or head at a time (``unit``), the layers of one kind in it (``part``), or a
            single layer (``layer``).
        rounding: of linear layers: to nearest, or by second order, as gptq and qvggt+ do. What a layer loses with one
            predicts little of what it loses with the other.
        by: ``measurement`` runs the model once for every item and scheme; ``gradient`` estimates all of them from one
            forward and one backward pass, against the float model's predictions only; ``auto`` does so, but measures
            what gradients cannot judge: items whose rounding errors cancel, or all of them against ground truth.
        supervision: against the float model's predictions (``teacher``), or against ground truth (``truth``).

    Raises:
        QvggtError: there are no schemes, a choice does not exist, or gradients are to tell of ground truth.
    """

    schemes: Sequence[LayerScheme] = sensitivity_schemes()
    granularity: Granularity = "part"
    rounding: Rounding = "nearest"
    supervision: Supervision = "teacher"
    by: SensitivityBy = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.schemes:
            raise QvggtError("there is nothing to measure: give at least one width (--bits)")
        check_choice("granularity", self.granularity, Granularity)
        check_choice("rounding", self.rounding, Rounding)
        check_choice("supervision", self.supervision, Supervision)
        _check_by(self.by, self.supervision, "--by")
