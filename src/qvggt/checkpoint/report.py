"""Layers, bits and bytes of a model, from its files."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from qvggt.checkpoint.folder import Checkpoint
from qvggt.nn.convert import model_layers, parameter_shapes
from qvggt.options import products_share
from qvggt.quant.layer_names import part_of
from qvggt.quant.recipe import Provenance
from qvggt.quant.scheme import Scheme
from qvggt.types import LayerId
from qvggt.weights.open import FloatWeights


@dataclass(frozen=True)
class LayerReport:
    """One layer, or the parameters of a part of the model that are in no layer (norms, scales, tokens).

    Attributes:
        name: the layer's name; the part's name for the rest.
        part: frame, global, patch_embed, camera_head, depth_head, point_head or tokens.
        kind: "linear", "conv2d", or "rest".
        bits: of a weight.
        group_size: input channels that share a scale; -1 for all of an output channel's; None for floating weights.
        parameters: of the float model's layer, bias included.
        bytes: its size in the file, scales and bias included.
        activation_bits: bits to which the input is rounded; None if it stays floating.
        rotation: whether the input is rotated.
    """

    name: str
    part: str
    kind: Literal["linear", "conv2d", "rest"]
    bits: int
    group_size: int | None
    parameters: int
    bytes: int
    activation_bits: int | None = None
    rotation: bool = False


@dataclass(frozen=True)
class LevelReport:
    """The global attention of scenes of some number of frames and more, by the model's attention plan.

    Attributes:
        min_frames: from which on it applies.
        blocks: attention of each global block, as ``BlockAttention`` names it.
        products_share: products of a query with a key, as a share of exact attention's, for ``min_frames`` square
            images of the model's size.
    """

    min_frames: int
    blocks: tuple[str, ...]
    products_share: float


@dataclass(frozen=True)
class CheckpointReport:
    """Size of a model, in all and by layer.

    Attributes:
        parameters: of the float model.
        average_bits: bits of tensor data per parameter, scales and everything that stayed floating included.
        checkpoint_bytes: size of all files; None for stand-in weights.
        layers: every layer in the model's order, then the rest of each part; they add up to the whole.
        provenance: how and from what the model was made.
        attention: levels of the attention plan; none for exact attention.
    """

    parameters: int
    average_bits: float
    checkpoint_bytes: int | None
    layers: tuple[LayerReport, ...]
    provenance: Provenance
    attention: tuple[LevelReport, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def inspect_model(opened: FloatWeights | Checkpoint) -> CheckpointReport:
    """Report an opened model's layers, bits and bytes; no tensor is read."""
    shapes, stored = model_layers(opened.config), _tensor_bytes(opened)
    counts = {name: math.prod(shape) for name, shape in parameter_shapes(opened.config).items()}
    schemes = {} if opened.recipe is None else opened.recipe.quantized
    in_module, rest, rest_bytes = Counter[str](), Counter[str](), Counter[str]()
    for name, size in stored.items():
        in_module[name.rpartition(".")[0]] += size
    layers = [
        _layer(
            LayerReport(
                name,
                part=part_of(name),
                kind=shape.kind,
                bits=8 * stored.get(f"{name}.weight", 0) // counts[f"{name}.weight"],
                group_size=None,
                parameters=counts[f"{name}.weight"] + counts.get(f"{name}.bias", 0),
                bytes=in_module[name],
            ),
            schemes.get(name),
        )
        for name, shape in shapes.items()
        if in_module[name]  # a head may be absent
    ]
    for name, count in counts.items():
        if LayerId(name.rpartition(".")[0]) not in shapes and name in stored:
            rest[part_of(name)] += count
            rest_bytes[part_of(name)] += stored[name]
    for part, count in rest.items():
        size = rest_bytes[part]
        layers.append(
            LayerReport(
                part, part=part, kind="rest", bits=8 * size // count, group_size=None, parameters=count, bytes=size
            )
        )
    provenance = Provenance(opened.name, method="float") if opened.recipe is None else opened.recipe.provenance
    return CheckpointReport(
        opened.parameters,
        average_bits=opened.average_bits,
        checkpoint_bytes=opened.file_bytes,
        layers=tuple(layers),
        provenance=provenance,
        attention=_levels(opened),
    )


def _levels(opened: FloatWeights | Checkpoint) -> tuple[LevelReport, ...]:
    plan, config = None if opened.recipe is None else opened.recipe.attention, opened.config
    if plan is None:
        return ()
    side = config.image_size // config.patch_size
    scene = 1 + config.register_tokens, (side, side)
    return tuple(
        LevelReport(level.min_frames, tuple(map(str, level.blocks)), products_share(plan, level.min_frames, *scene))
        for level in plan.levels
    )


def _layer(layer: LayerReport, scheme: Scheme | None) -> LayerReport:
    if scheme is None:
        return layer
    return replace(
        layer,
        bits=scheme.bits,
        group_size=scheme.group_size,
        activation_bits=scheme.activation_bits,
        rotation=scheme.rotation,
    )


def _tensor_bytes(opened: FloatWeights | Checkpoint) -> dict[str, int]:
    if isinstance(opened, Checkpoint):
        return {name: entry.nbytes for name, entry in opened.file.entries.items()}
    source = opened.source
    if not opened.files:  # drawn when they are read: float32
        return {name: 4 * math.prod(source.shape(name)) for name in source.names()}
    return {name: source.tensor(name).nbytes for name in source.names()}  # mapped, not read
