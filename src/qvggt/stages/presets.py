"""Recipes made by hand, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qvggt.model import VGGTConfig
from qvggt.quant.recipe import select_layers
from qvggt.quant.scheme import FloatScheme, FloatType, LayerScheme, LayerShape
from qvggt.types import LayerId, QvggtError


@dataclass(frozen=True)
class Preset:
    """Which layers are quantized.

    Attributes:
        quantized: patterns of layers (see ``select_layers``); all others stay floating.
        fragile: AA blocks, as (``frame`` or ``global``, index), of which only ``fragile_quantized`` is.
        fragile_quantized: layers within those blocks.
        depth: AA pairs of the model that the indices are of. In another one they stand for the blocks at the same
            share of the way from the first pair to the last.
    """

    quantized: tuple[str, ...]
    fragile: tuple[tuple[str, int], ...] = ()
    fragile_quantized: tuple[str, ...] = ()
    depth: int = 24


PRESETS: Mapping[str, Preset] = {
    "uniform": Preset(("all",)),
    "paper": Preset(("aa",), (("frame", 14), ("frame", 17), ("frame", 23), ("global", 23)), ("attn.proj",)),
}
"""``uniform`` quantizes everything alike. ``paper`` is what the QVGGT paper found by hand on VGGT-1B: of four fragile
blocks only the attention's output projection is quantized, and the patch embedding not at all. The paper speaks of AA
blocks, and of the camera head as the most fragile consumer without saying that it is quantized: here ``paper`` leaves
all heads floating."""


def preset_schemes(
    name: str,
    config: VGGTConfig,
    shapes: Mapping[LayerId, LayerShape],
    linear: LayerScheme,
    conv: LayerScheme,
    float_type: FloatType = "float16",
) -> dict[LayerId, LayerScheme]:
    """Return the scheme that a preset gives to every layer.

    Args:
        name: in ``PRESETS``.
        config: the architecture.
        shapes: its layers that can be quantized.
        linear: of linear layers that are quantized.
        conv: of convolutions that are.
        float_type: of all other layers.

    Raises:
        QvggtError: there is no such preset.
    """
    if name not in PRESETS:
        raise QvggtError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    quantized = set(select_layers(shapes, preset.quantized))
    for kind, index in preset.fragile:
        block = f"aggregator.{kind}_blocks.{scaled_index(index, preset.depth, config.depth)}."
        spared = {block + layer for layer in preset.fragile_quantized}
        quantized -= {layer for layer in quantized if layer.startswith(block) and layer not in spared}
    schemes = {"linear": linear, "conv2d": conv}
    stay = FloatScheme(float_type)
    return {layer: schemes[shape.kind] if layer in quantized else stay for layer, shape in shapes.items()}


def scaled_index(index: int, depth: int, other_depth: int) -> int:
    """Return the block at the same share of the way from the first to the last in a model of another depth.

    >>> [scaled_index(index, 24, 6) for index in (0, 14, 17, 23)]
    [0, 3, 4, 5]
    """
    return round(index * (other_depth - 1) / max(depth - 1, 1))
