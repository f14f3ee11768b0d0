"""RTN: round every weight to its nearest level, layer by layer, without calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from qvggt.methods.base import Method
from qvggt.methods.common import current_versions, uniform_schemes
from qvggt.model import VGGTConfig
from qvggt.nn.convert import parameter_shapes, quantize_layer, stored_dtype, to_stored, torch_dtype
from qvggt.quant.recipe import Provenance, Recipe, build_recipe
from qvggt.quant.scheme import LayerShape
from qvggt.quant.source import TensorSource, check_tensors
from qvggt.types import LayerId


class Rtn(Method):
    """Rounding to nearest, from file to file without holding the model in memory."""

    summary = "rounding to nearest, without calibration"
    needs_calibration = False

    def recipe(self, shapes: Mapping[LayerId, LayerShape], source: Provenance) -> Recipe:
        """Return the recipe that gives every layer the user's scheme.

        Args:
            shapes: the model's quantizable layers.
            source: provenance of the float model, and the method's name.

        Raises:
            QvggtError: a pattern matches no layer.
        """
        schemes = uniform_schemes(shapes, self.options)
        provenance = replace(source, options=self.options.layers_json(), versions=current_versions())
        return build_recipe(shapes, schemes, self.options.float_type, provenance)

    def stream(self, weights: TensorSource, config: VGGTConfig, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor of the quantized checkpoint, reading one layer at a time.

        Args:
            weights: the float model's tensors; those that the architecture does not have are ignored.
            config: its architecture.
            recipe: the scheme of each layer.

        Raises:
            QvggtError: a tensor is missing, has another shape, or contains NaN or infinity.
        """
        wanted = parameter_shapes(config)
        found = {name: weights.shape(name) for name in weights.names() if name in wanted}
        check_tensors("the weights do not fit the architecture", found, wanted)
        quantized = recipe.quantized
        for name in wanted:
            layer, _, leaf = name.rpartition(".")
            scheme = quantized.get(LayerId(layer)) if leaf == "weight" else None
            if scheme is None:
                yield name, to_stored(name, weights.tensor(name), stored_dtype(recipe, name))
                continue
            packed = quantize_layer(layer, weights.tensor(name), scheme, torch_dtype(recipe.float_type))
            for leaf, tensor in packed.tensors().items():
                yield f"{layer}.{leaf}", tensor
