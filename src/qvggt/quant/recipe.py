"""The decisions of a quantization as data: which layer has which scheme, and where that came from."""

from __future__ import annotations

import difflib
import fnmatch
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from qvggt.quant.scheme import FloatScheme, FloatType, LayerScheme, LayerShape, Scheme, check_kind, scheme_from_json
from qvggt.types import LayerId, QvggtError

RECIPE_VERSION = 1

GROUPS: Mapping[str, tuple[str, ...]] = {
    "aa": ("aggregator.frame_blocks.", "aggregator.global_blocks."),
    "frame": ("aggregator.frame_blocks.",),
    "global": ("aggregator.global_blocks.",),
    "patch_embed": ("aggregator.patch_embed.",),
    "camera_head": ("camera_head.",),
    "dense_heads": ("depth_head.", "point_head."),
    "depth_head": ("depth_head.",),
    "point_head": ("point_head.",),
}
"""Named parts of VGGT: what the names of their layers begin with. ``all``, ``linear`` and ``conv2d`` exist besides."""

_ALL_GROUPS = ("all", "linear", "conv2d", *GROUPS)


@dataclass(frozen=True)
class Provenance:
    """Where a quantized model came from.

    Attributes:
        source: the float model, as it was named.
        source_hash: hash of its weights, with the hash's name in front; empty if it is not known.
        method: "rtn", for example.
        options: the method's options.
        calibration: data, number of images, seed; empty for a method that needs none.
        versions: of qvggt and torch.
        sensitivities: what was measured for the choice of schemes, in the method's own form.
        stages: which stages were accepted or rejected and why, in the method's own form.
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
    """How every weight of a model is stored.

    Attributes:
        layers: the scheme of each layer that is named; every scheme's group size divides its layer's width.
        float_type: type of all other weights, of biases, and of scales.
        provenance: where this came from.
        compensation: whether the camera head has one token more, which is stored like every other parameter.
    """

    layers: Mapping[LayerId, LayerScheme]
    float_type: FloatType = "float16"
    provenance: Provenance = field(default_factory=Provenance)
    compensation: bool = False

    def __post_init__(self) -> None:
        FloatScheme(self.float_type)  # refuses an unknown type

    @property
    def quantized(self) -> dict[LayerId, Scheme]:
        """The layers that hold integers."""
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
            "layers": {name: scheme.to_json() for name, scheme in self.layers.items()},
            "provenance": asdict(self.provenance),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        """Rebuild a recipe from ``to_json``.

        Raises:
            QvggtError: it is of another version or no recipe at all.
        """
        version = values.get("version") if isinstance(values, Mapping) else None
        if version != RECIPE_VERSION:
            raise QvggtError(
                f"the recipe has version {version!r}, and this qvggt reads version {RECIPE_VERSION}: "
                "quantize again, or use the qvggt that wrote it"
            )
        try:
            layers = {LayerId(name): scheme_from_json(scheme) for name, scheme in values["layers"].items()}
            compensation = bool(values.get("compensation", False))
            return cls(layers, values["float_type"], Provenance(**values["provenance"]), compensation)
        except (KeyError, TypeError, AttributeError) as error:
            raise QvggtError(f"the recipe is damaged ({error}): quantize again") from error

    def dumps(self) -> str:
        """Return the recipe as JSON text."""
        return json.dumps(self.to_json(), indent=2)


def build_recipe(
    shapes: Mapping[LayerId, LayerShape],
    schemes: Mapping[LayerId, LayerScheme],
    float_type: FloatType = "float16",
    provenance: Provenance | None = None,
) -> Recipe:
    """Make a recipe for a model.

    Args:
        shapes: the model's quantizable layers.
        schemes: a scheme for each layer that shall not simply take ``float_type``; group sizes are made to divide.
        float_type: type of everything else.
        provenance: where the choice came from.

    Raises:
        QvggtError: a layer does not exist, or is a convolution and its scheme is not of weights alone.
    """
    unknown = sorted(set(schemes) - set(shapes))
    if unknown:
        raise QvggtError(f"the model has no layer {unknown[0]!r} that can be quantized{_hint(unknown[0], shapes)}")
    for name, scheme in schemes.items():
        check_kind(shapes[name].kind, scheme, name)
    fitted = {
        name: scheme.for_width(shapes[name].width) if isinstance(scheme, Scheme) else scheme
        for name, scheme in schemes.items()
    }
    return Recipe(fitted, float_type, provenance or Provenance())


def select_layers(shapes: Mapping[LayerId, LayerShape], patterns: Sequence[str]) -> list[LayerId]:
    """Return the layers that any of the patterns names, in the model's order.

    A pattern is a group (``all``, ``linear``, ``conv2d`` or a key of ``GROUPS``), a layer's name or the beginning of
    one up to a dot (``aggregator.frame_blocks.3``), a glob (``*.mlp.fc1``), or a regular expression that matches from
    the name's beginning (``re:.*attn[.]proj``).

    Raises:
        QvggtError: a pattern matches no layer, or is no valid regular expression.
    """
    chosen: set[LayerId] = set()
    for pattern in patterns:
        matched = {name for name, shape in shapes.items() if _matches(pattern, name, shape)}
        if not matched:
            raise QvggtError(f"no layer matches {pattern!r}{_hint(pattern, shapes)}")
        chosen |= matched
    return [name for name in shapes if name in chosen]


def part_of(name: str) -> str:
    """Return the part of VGGT that a parameter or layer belongs to, as tables show it."""
    parts = ("frame", "global", "patch_embed", "camera_head", "depth_head", "point_head")
    return next((part for part in parts if name.startswith(GROUPS[part])), "tokens")


def _matches(pattern: str, name: str, shape: LayerShape) -> bool:
    if pattern in _ALL_GROUPS:
        return pattern in ("all", shape.kind) or name.startswith(GROUPS.get(pattern, ()))
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], name) is not None
        except re.error as error:
            raise QvggtError(f"{pattern[3:]!r} is no regular expression: {error}") from error
    return fnmatch.fnmatchcase(name, pattern) or name.startswith(pattern.rstrip(".") + ".")


def _hint(pattern: str, shapes: Mapping[LayerId, LayerShape]) -> str:
    prefixes = {".".join(parts[:end]) for parts in (name.split(".") for name in shapes) for end in range(1, 9)}
    close = difflib.get_close_matches(pattern, [*_ALL_GROUPS, *sorted(prefixes)], n=3, cutoff=0.6)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{meant} (groups: {', '.join(_ALL_GROUPS)}; or a name, a glob, re:EXPRESSION)"
