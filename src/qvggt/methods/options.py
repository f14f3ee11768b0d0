"""What a user decides about a quantization, whatever the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from qvggt.calibration.data import CalibrationOptions
from qvggt.calibration.objective import Supervision
from qvggt.calibration.statistics import parse_token_classes
from qvggt.quant.scheme import FloatType, LayerScheme, Scheme
from qvggt.types import PathLike, QvggtError


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of every method; those from ``tokens`` on say nothing to methods without calibration.

    Attributes:
        scheme: of linear layers; methods that choose schemes themselves start from it.
        conv: of convolutions. They are a twentieth of the weights, and feed the maps directly: 8 bits cost little.
        layers: patterns of the layers to quantize (see ``select_layers``); all others keep ``float_type``.
        float_type: type of everything that is not quantized, and of scales.
        tokens: classes of tokens whose activations count (``all``, ``patch``, ``camera+patch``, ...); None for what the
            method was published with.
        supervision: what the task objective compares with: the float model, or the truth where it is known.
        calibration: the scenes.
        activation_bits: of activations, for methods that round them; None for what the method was published with.
        average_bits: budget over all linear layers, for methods that choose schemes; None for theirs.
        max_bytes: budget for the whole checkpoint, in place of ``average_bits``.
        sensitivities: a report of ``qvggt sensitivity`` on the same model, for methods that choose schemes; if None
            they measure by themselves.
        without: stages of a method that are left out, so that what they do can be measured.
        memory_bytes: of activations in memory; what is beyond waits in temporary files.
    """

    scheme: LayerScheme = field(default_factory=Scheme)
    conv: LayerScheme = field(default_factory=lambda: Scheme(bits=8))
    layers: Sequence[str] = ("all",)
    float_type: FloatType = "float16"
    tokens: str | None = None
    supervision: Supervision = "teacher"
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    activation_bits: int | None = None
    average_bits: float | None = None
    max_bytes: int | None = None
    sensitivities: PathLike | None = None
    without: tuple[str, ...] = ()
    memory_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        if self.tokens is not None:
            parse_token_classes(self.tokens)
        if self.average_bits is not None and self.max_bytes is not None:
            raise QvggtError("a budget of average bits and one of bytes exclude each other: give one of them")

    def layers_json(self) -> dict[str, Any]:
        """Return the options that say something to every method, as JSON-ready values."""
        return {
            "scheme": self.scheme.to_json(),
            "conv": self.conv.to_json(),
            "layers": list(self.layers),
            "float_type": self.float_type,
        }

    def to_json(self) -> dict[str, Any]:
        """Return all fields but the calibration scenes, which provenance lists by themselves, as JSON-ready values."""
        values = {name: value for name, value in asdict(self).items() if name not in ("calibration", "memory_bytes")}
        measured = None if self.sensitivities is None else str(self.sensitivities)
        return {**values, "sensitivities": measured, **self.layers_json()}
