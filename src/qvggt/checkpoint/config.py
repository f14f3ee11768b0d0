"""The ``quantization_config`` of a checkpoint's ``config.json``, in the vocabulary of `compressed-tensors`_.

Each group of layers states the scheme of its weights and, if inputs are rounded, of its inputs
(``input_activations``). It names its format, because the library would otherwise expect unpacked codes wherever
activations are rounded. Layers with a Hadamard rotation are also in ``transform_config``: a transform of type
"hadamard" with the block's size (``head_dim``), at the locations "input" (computed at each call) and, inverse,
"weight_input" (already in the stored weights). A reader that decodes only the weights of such a layer gets W·H.

.. _compressed-tensors: https://github.com/vllm-project/compressed-tensors
"""

from __future__ import annotations

from typing import Any

from qvggt.model import VGGTConfig
from qvggt.nn.convert import model_layers
from qvggt.quant.hadamard import hadamard_size
from qvggt.quant.recipe import Recipe
from qvggt.quant.scheme import PER_CHANNEL, Scheme


def quantization_config(config: VGGTConfig, recipe: Recipe) -> dict[str, Any]:
    """Describe a quantized model to other readers, as JSON-ready values."""
    quantized = recipe.quantized
    layers_of: dict[Scheme, list[str]] = {}
    for name, scheme in quantized.items():
        layers_of.setdefault(scheme, []).append(name)
    values: dict[str, Any] = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{index}": _group(names, scheme) for index, (scheme, names) in enumerate(layers_of.items())
        },
        "ignore": [name for name in model_layers(config) if name not in quantized],
    }
    transforms = _transforms(config, recipe)
    if transforms:
        values["transform_config"] = {"config_groups": transforms}
    return values


def _group(names: list[str], scheme: Scheme) -> dict[str, Any]:
    group: dict[str, Any] = {"targets": names, "weights": _weight_args(scheme), "format": "pack-quantized"}
    if scheme.activation_bits is not None:
        group["input_activations"] = {
            "num_bits": scheme.activation_bits,
            "type": "int",
            "symmetric": True,
            "strategy": "token",
            "dynamic": True,
        }
    return group


def _weight_args(scheme: Scheme) -> dict[str, Any]:
    per_channel = scheme.group_size == PER_CHANNEL
    return {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": scheme.symmetric,
        "strategy": "channel" if per_channel else "group",
        "group_size": None if per_channel else scheme.group_size,
        "dynamic": False,
    }


def _transforms(config: VGGTConfig, recipe: Recipe) -> dict[str, Any]:
    layers, layers_of = model_layers(config), dict[int, list[str]]()
    for name, scheme in recipe.quantized.items():
        if scheme.rotation:
            layers_of.setdefault(hadamard_size(layers[name].width), []).append(name)
    return {
        f"hadamard_{size}": {
            "type": "hadamard",
            "head_dim": size,
            "apply": [
                {"targets": names, "location": "input"},
                {"targets": names, "location": "weight_input", "inverse": True},
            ],
        }
        for size, names in sorted(layers_of.items())
    }
