"""RTN: every weight to its nearest level, one layer at a time, without calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from qvggt.methods.common import current_versions, refuse_budget, uniform_schemes
from qvggt.model import VGGTConfig
from qvggt.nn.convert import parameter_shapes, quantize_layer, stored_dtype, to_stored, torch_dtype
from qvggt.options import QuantizeOptions
from qvggt.quant.recipe import Provenance, Recipe, build_recipe
from qvggt.quant.scheme import LayerShape
from qvggt.quant.source import TensorSource, check_tensors
from qvggt.types import LayerId


def rtn_recipe(
    shapes: Mapping[LayerId, LayerShape], options: QuantizeOptions | None = None, provenance: Provenance | None = None
) -> Recipe:
    """Return the recipe by which RTN quantizes a model with these layers.

    Args:
        shapes: the model's quantizable layers.
        options: of the method.
        provenance: what is known of the source; method, options and versions are filled in here.

    Raises:
        QvggtError: a pattern matches no layer, or a budget is asked for.
    """
    options = options or QuantizeOptions()
    refuse_budget(options)
    schemes = uniform_schemes(shapes, options)
    provenance = replace(
        provenance or Provenance(), method="rtn", options=options.layers_json(), versions=current_versions()
    )
    return build_recipe(shapes, schemes, options.float_type, provenance)


def rtn(source: TensorSource, config: VGGTConfig, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of the quantized checkpoint, reading and holding one layer of the source at a time.

    Args:
        source: the float model's tensors; what the architecture has no use for is left alone.
        config: its architecture.
        recipe: from ``rtn_recipe``, or any other.

    Raises:
        QvggtError: a tensor is missing, of another shape, or holds NaN or infinity.
    """
    wanted = parameter_shapes(config)
    found = {name: source.shape(name) for name in source.names() if name in wanted}
    check_tensors("the weights do not fit the architecture", found, wanted)
    quantized = recipe.quantized
    for name in wanted:
        layer, _, leaf = name.rpartition(".")
        scheme = quantized.get(LayerId(layer)) if leaf == "weight" else None
        if scheme is None:
            yield name, to_stored(name, source.tensor(name), stored_dtype(recipe, name))
            continue
        packed = quantize_layer(layer, source.tensor(name), scheme, torch_dtype(recipe.float_type))
        for leaf, tensor in packed.tensors().items():
            yield f"{layer}.{leaf}", tensor
