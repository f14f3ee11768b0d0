"""A quantization as data: the scheme of each layer, and its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from qvggt.quant.layer_names import hint
from qvggt.quant.scheme import FloatScheme, FloatType, LayerScheme, LayerShape, Scheme, check_kind, scheme_from_json
from qvggt.types import AttentionPlan, LayerId, QvggtError

RECIPE_VERSION = 1


@dataclass(frozen=True)
class Provenance:
    """Where a quantized model came from.

    Attributes:
        source: name of the float model, as given by the user.
        source_hash: hash of its weights, prefixed by the hash's name; empty if unknown.
        method: name of the method, e.g. ``rtn``.
        options: the method's options.
        calibration: data, number of images, seed; empty for a method without calibration.
        versions: versions of qvggt and torch.
        sensitivities: measurements behind the choice of schemes, in the method's own form.
        stages: notes of the method's stages, e.g. whether they were accepted.
    """

    source: str = ""
    source_hash: str = ""
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    sensitivities: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """How a model's weights are stored.

    Attributes:
        layers: layer -> scheme; every group size divides its layer's width.
        float_type: type of all other weights, of biases, and of scales.
        provenance: where the model came from.
        compensation: whether the camera head has a compensation token, which is stored like other parameters.
        attention: plan of the global attention with which the model runs unless another is asked for; None for exact.
    """

    layers: Mapping[LayerId, LayerScheme]
    float_type: FloatType = "float16"
    provenance: Provenance = field(default_factory=Provenance)
    compensation: bool = False
    attention: AttentionPlan | None = None

    def __post_init__(self) -> None:
        FloatScheme(self.float_type)  # refuses an unknown type

    @property
    def quantized(self) -> dict[LayerId, Scheme]:
        """The layers with integer schemes."""
        return {name: scheme for name, scheme in self.layers.items() if isinstance(scheme, Scheme)}

    def float_type_of(self, layer: str) -> FloatType:
        """Return the type of a layer's weight if it is not quantized."""
        scheme = self.layers.get(LayerId(layer))
        return scheme.dtype if isinstance(scheme, FloatScheme) else self.float_type

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping that ``from_json`` reads."""
        return {
            "version": RECIPE_VERSION,
            "float_type": self.float_type,
            **({"compensation": True} if self.compensation else {}),
            **({} if self.attention is None else {"attention_plan": self.attention.to_json()}),
            "layers": {name: scheme.to_json() for name, scheme in self.layers.items()},
            "provenance": asdict(self.provenance),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        """Rebuild a recipe from ``to_json``.

        Raises:
            QvggtError: the mapping has another version, is damaged, or is not a recipe.
        """
        version = values.get("version") if isinstance(values, Mapping) else None
        if version != RECIPE_VERSION:
            raise QvggtError(
                f"the recipe has version {version!r}, but this qvggt reads version {RECIPE_VERSION}: "
                "quantize again, or use the qvggt that wrote it"
            )
        try:
            layers = {LayerId(name): scheme_from_json(scheme) for name, scheme in values["layers"].items()}
            compensation = bool(values.get("compensation", False))
            plan = AttentionPlan.from_json(values["attention_plan"]) if "attention_plan" in values else None
            return cls(layers, values["float_type"], Provenance(**values["provenance"]), compensation, attention=plan)
        except (KeyError, TypeError, AttributeError) as error:
            raise QvggtError(f"the recipe is damaged ({error}): quantize again") from error


def build_recipe(
    shapes: Mapping[LayerId, LayerShape],
    schemes: Mapping[LayerId, LayerScheme],
    float_type: FloatType = "float16",
    provenance: Provenance | None = None,
) -> Recipe:
    """Build the recipe of a model; group sizes are made to divide the layers' widths.

    Args:
        shapes: the model's quantizable layers.
        schemes: scheme of each layer that does not simply take ``float_type``.
        float_type: type of everything else.
        provenance: where the model came from.

    Raises:
        QvggtError: a layer does not exist, or a convolution's scheme changes its input.
    """
    unknown = sorted(set(schemes) - set(shapes))
    if unknown:
        raise QvggtError(f"the model has no layer {unknown[0]!r} that can be quantized{hint(unknown[0], shapes)}")
    for name, scheme in schemes.items():
        check_kind(shapes[name].kind, scheme, name)
    fitted = {
        name: scheme.for_width(shapes[name].width) if isinstance(scheme, Scheme) else scheme
        for name, scheme in schemes.items()
    }
    return Recipe(fitted, float_type, provenance or Provenance())
