"""Helpers shared by all methods."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from qvggt.options import QuantizeOptions
from qvggt.quant.layer_names import select_layers
from qvggt.quant.scheme import LayerScheme, LayerShape
from qvggt.types import LayerId, QvggtError
from qvggt.version import __version__


def current_versions() -> dict[str, str]:
    """Return the versions that a recipe's provenance records."""
    return {"qvggt": __version__, "torch": str(torch.__version__)}


def refuse_budget(options: QuantizeOptions) -> None:
    """Raise QvggtError if the options set a budget or sensitivities, or how to find them."""
    given = (options.average_bits, options.max_bytes, options.sensitivities)
    if any(value is not None for value in given) or options.select_by != QuantizeOptions.select_by:
        raise QvggtError(
            "this method gives every layer the same scheme and cannot use a budget or sensitivities: "
            "choose qvggt or qvggt+ for that (--method)"
        )


def uniform_schemes(shapes: Mapping[LayerId, LayerShape], options: QuantizeOptions) -> dict[LayerId, LayerScheme]:
    """Return the options' schemes, for linear layers and for convolutions, of every selected layer.

    Raises:
        QvggtError: a pattern matches no layer.
    """
    chosen = select_layers(shapes, options.layers)
    return {name: options.scheme if shapes[name].kind == "linear" else options.conv for name in chosen}
