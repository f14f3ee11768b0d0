"""Conversion of a float model to a quantized one, and the layout of what is stored of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor, nn

from qvggt.backends import Backend, pick
from qvggt.model import VGGT, VGGTConfig
from qvggt.model.layers import Arithmetic, use_arithmetic
from qvggt.nn.conv import CastConv2d, QuantConv2d
from qvggt.nn.half import replace_layer, use_half
from qvggt.nn.linear import CastLinear, PackedLayer, QuantLinear
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.quant.affine import QuantizedTensor, quantize
from qvggt.quant.hadamard import rotate_weight
from qvggt.quant.packing import PackedWeight, pack, packed_layout
from qvggt.quant.recipe import Recipe
from qvggt.quant.scheme import FloatType, LayerShape, Scheme, check_kind
from qvggt.types import LayerId, QvggtError

TensorLayout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of named tensors."""

_REPEATED = {
    "aggregator.patch_embed.blocks.": "vit_depth",
    "aggregator.frame_blocks.": "depth",
    "aggregator.global_blocks.": "depth",
    "camera_head.trunk.": "camera_trunk_depth",
}
"""The config field that says how many blocks there are under a name."""

_COMPENSATION = "camera_head.compensation"


def quantizable_modules(model: nn.Module) -> dict[LayerId, nn.Linear | nn.Conv2d]:
    """Return every float linear layer and convolution by name, in the model's order."""
    return {LayerId(name): m for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}


def quantizable_layers(model: nn.Module) -> dict[LayerId, LayerShape]:
    """Return kind and shape of every layer that a recipe may quantize, in the model's order."""
    return {
        name: LayerShape("linear" if isinstance(layer, nn.Linear) else "conv2d", tuple(layer.weight.shape))
        for name, layer in quantizable_modules(model).items()
    }


@lru_cache(maxsize=8)
def parameter_shapes(config: VGGTConfig) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of every parameter of a float model, in the model's order."""
    return MappingProxyType({name: tuple(tensor.shape) for name, tensor in _on_meta(config).state_dict().items()})


def check_depths(misfit: str, config: VGGTConfig, names: Iterable[str]) -> None:
    """Raise QvggtError if an architecture has another number of blocks than there are tensors of.

    It costs nothing, and building thousands of blocks takes minutes: call it before ``parameter_shapes``.

    Args:
        misfit: how the error begins.
        config: the architecture.
        names: of all tensors.
    """
    blocks: dict[str, set[str]] = {part: set() for part in _REPEATED}
    for name in names:
        for part in _REPEATED:
            if name.startswith(part):
                blocks[part].add(name[len(part) :].partition(".")[0])
    for part, field in _REPEATED.items():
        wanted = getattr(config, field)
        if blocks[part] and len(blocks[part]) != wanted:
            raise QvggtError(f"{misfit}: {part}* has {len(blocks[part])} blocks, and {field} in its config is {wanted}")


@lru_cache(maxsize=8)
def model_layers(config: VGGTConfig) -> Mapping[LayerId, LayerShape]:
    """Return kind and shape of every layer of an architecture that a recipe may quantize, in the model's order."""
    return MappingProxyType(quantizable_layers(_on_meta(config)))


def convert(
    model: VGGT,
    recipe: Recipe,
    backend: Backend | None = None,
    dtype: torch.dtype = torch.float32,
    weights: Mapping[LayerId, QuantizedTensor] | None = None,
) -> QuantizedVGGT:
    """Quantize a float model in place: the same object, whose class is ``QuantizedVGGT`` from then on.

    Its weights are those of a checkpoint that was written and read again (see ``convert_layers``).

    Args:
        model: a float model, possibly on the meta device; it then becomes a quantized model without values.
        recipe: the scheme of each layer.
        backend: computes products and attention; picked for the model's device if None.
        dtype: the type in which the model computes.
        weights: integers for layers that a method has rounded already; all others are rounded to nearest.

    Raises:
        QvggtError: the recipe names a layer that the model lacks, or rounds or rotates a convolution's input, or a
            weight is NaN or infinite.
    """
    backend = backend or pick(_device_of(model))
    convert_layers(model, recipe, backend, dtype, weights=weights)
    # In place, so that float weights are freed layer by layer and all references see the quantized model.
    model.__class__ = QuantizedVGGT
    assert isinstance(model, QuantizedVGGT)
    model.recipe = recipe
    if backend.dtype is not None:
        use_half(model, backend, keep_stored=True)
    return model


def convert_layers(
    module: nn.Module,
    recipe: Recipe,
    backend: Backend,
    dtype: torch.dtype = torch.float32,
    weights: Mapping[LayerId, QuantizedTensor] | None = None,
) -> None:
    """Quantize the layers of any module in place, and have its attention computed by the backend.

    Weights that the recipe keeps floating are rounded to the recipe's type. Those of linear layers and convolutions
    stay in it and are widened at use if that saves memory; all others (norms, tokens, biases) are widened here.

    Raises:
        QvggtError: as ``convert``.
    """
    layers = quantizable_modules(module)
    check_recipe(recipe, quantizable_layers(module))
    for name, scheme in recipe.quantized.items():
        layer = layers.pop(name)  # drops the last reference to its float weights
        given = None if weights is None else weights.get(name)
        replace_layer(
            module, name, _quantized(name, layer, scheme, torch_dtype(recipe.float_type), backend=backend, given=given)
        )
    for name, parameter in module.named_parameters():
        parameter.data = to_stored(name, parameter.detach(), stored_dtype(recipe, name)).to(dtype)
    for name, layer in quantizable_modules(module).items():
        stored = stored_dtype(recipe, f"{name}.weight")
        if stored.itemsize < dtype.itemsize:
            new = CastLinear.like(layer, stored) if isinstance(layer, nn.Linear) else CastConv2d.like(layer, stored)
            replace_layer(module, name, new)
    use_arithmetic(module, Arithmetic(backend.attend, backend.cache_dtype))


def check_recipe(recipe: Recipe, layers: Mapping[LayerId, LayerShape]) -> None:
    """Raise QvggtError if a recipe names a layer that is not there, or rounds or rotates a convolution's input."""
    unknown = sorted(set(recipe.layers) - set(layers))
    if unknown:
        raise QvggtError(f"the recipe names {len(unknown)} layers that the model lacks, {unknown[0]!r} for one")
    for name, scheme in recipe.layers.items():
        check_kind(layers[name].kind, scheme, name)


def shell(config: VGGTConfig, recipe: Recipe, backend: Backend, dtype: torch.dtype = torch.float32) -> QuantizedVGGT:
    """Return the quantized model on the meta device: all layers, no values yet (see ``fill``).

    Raises:
        QvggtError: the recipe names a layer that the architecture lacks.
    """
    model = _on_meta(config)
    if recipe.compensation:
        model.camera_head.compensation = nn.Parameter(torch.empty(_compensation_shape(config), device="meta"))
    return convert(model, recipe, backend, dtype).requires_grad_(False)


def fill(
    model: QuantizedVGGT, tensors: Iterable[tuple[str, Tensor]], device: str | torch.device = "cpu"
) -> QuantizedVGGT:
    """Give a shell its values, without a copy where a tensor has the model's type and device already.

    Args:
        model: from ``shell``.
        tensors: a tensor for every name in its state dict; floating ones are cast to the type the model keeps them in.
        device: the model's device.

    Raises:
        RuntimeError: a name or a shape does not belong, or a name is missing.
    """
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    state = {name: tensor.to(device, dtypes.get(name, tensor.dtype)) for name, tensor in tensors}
    model.load_state_dict(state, strict=True, assign=True)
    return model


def stored_layout(config: VGGTConfig, recipe: Recipe) -> TensorLayout:
    """Return type and shape of every tensor of a checkpoint, from the architecture's shapes alone.

    Raises:
        QvggtError: the recipe names a layer that the architecture lacks.
    """
    layers = model_layers(config)
    check_recipe(recipe, layers)
    layout, schemes, scale_dtype = {}, recipe.quantized, torch_dtype(recipe.float_type)
    for name, shape in parameter_shapes(config).items():
        layer, _, leaf = name.rpartition(".")
        scheme = schemes.get(LayerId(layer)) if leaf == "weight" else None
        if scheme is None:
            layout[name] = stored_dtype(recipe, name), shape
            continue
        rows, width = layers[LayerId(layer)].rows, layers[LayerId(layer)].width
        for packed, entry in packed_layout((rows, width), scheme.for_width(width), scale_dtype).items():
            layout[f"{layer}.{packed}"] = entry
    if recipe.compensation:
        layout[_COMPENSATION] = stored_dtype(recipe, _COMPENSATION), _compensation_shape(config)
    return layout


def stored_dtype(recipe: Recipe, name: str) -> torch.dtype:
    """Return the type in which a checkpoint stores a floating parameter."""
    layer, _, leaf = name.rpartition(".")
    return torch_dtype(recipe.float_type_of(layer) if leaf == "weight" else recipe.float_type)


def stored_tensors(model: QuantizedVGGT) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a quantized model as its checkpoint stores it."""
    packed = _packed_names(model)
    for name, tensor in model.state_dict().items():
        yield name, tensor if name in packed else to_stored(name, tensor, stored_dtype(model.recipe, name))


def to_stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast a floating parameter to the type in which it is stored.

    Raises:
        QvggtError: it has NaN or infinity, or a number too large for the type.
    """
    stored = tensor.to(dtype)
    if not stored.is_meta and stored.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(stored))).all()):
        raise QvggtError(
            f"{name} has NaN, infinity, or a number too large for {str(dtype).removeprefix('torch.')}: "
            "use an intact checkpoint, or another float type (--float-type)"
        )
    return stored


def torch_dtype(name: FloatType) -> torch.dtype:
    """Return the torch type of a name in a recipe."""
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


def quantize_layer(name: str, weight: Tensor, scheme: Scheme, scale_dtype: torch.dtype) -> PackedWeight:
    """Round a weight, rotated if the scheme says so, to the nearest integers and pack it.

    Raises:
        QvggtError: a weight is NaN or infinite; the message names the layer.
    """
    try:
        stored = rotate_weight(weight) if scheme.rotation else weight
        return pack(quantize(stored, scheme, scale_dtype=scale_dtype))
    except QvggtError as error:
        raise QvggtError(f"{name}: {error}") from error


def _quantized(
    name: str,
    layer: nn.Linear | nn.Conv2d,
    scheme: Scheme,
    scale_dtype: torch.dtype,
    backend: Backend,
    given: QuantizedTensor | None,
) -> PackedLayer:
    if isinstance(layer, nn.Linear):
        new: PackedLayer = QuantLinear.like(layer, scheme, scale_dtype, backend)
    else:
        new = QuantConv2d.like(layer, scheme, scale_dtype, backend)
    if given is not None:
        new.assign_weight(pack(given))
    elif not layer.weight.is_meta:
        new.assign_weight(quantize_layer(name, layer.weight, scheme, scale_dtype))
    return new.train(layer.training)


def _packed_names(model: nn.Module) -> set[str]:
    return {
        f"{layer}.{name}"
        for layer, module in model.named_modules()
        if isinstance(module, PackedLayer)
        for name, _ in module.named_buffers(recurse=False)
    }


def _on_meta(config: VGGTConfig) -> VGGT:
    with torch.device("meta"):
        return VGGT(config)


def _compensation_shape(config: VGGTConfig) -> tuple[int, int, int]:
    return 1, 1, 2 * config.embed_dim


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
