"""Writing a quantized checkpoint, tensor by tensor, and its model card."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from qvggt.checkpoint.card import card_text
from qvggt.checkpoint.config import quantization_config
from qvggt.checkpoint.folder import CARD, CONFIG, FILES, FORMAT_VERSION, RECIPE, TENSORS, open_checkpoint, own_hash
from qvggt.checkpoint.tensors import TensorFileWriter
from qvggt.files import check_folder, check_space, new_folder
from qvggt.model import VGGT, VGGTConfig
from qvggt.nn.convert import stored_layout, stored_tensors
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.quant.recipe import Recipe
from qvggt.types import PathLike, QvggtError
from qvggt.version import __version__
from qvggt.weights.hub import HubOrigin
from qvggt.weights.tensor_file import hash_bytes


def write_checkpoint(
    folder: PathLike,
    config: VGGTConfig,
    recipe: Recipe,
    tensors: Iterable[tuple[str, Tensor]],
    overwrite: bool = False,
    origin: HubOrigin | None = None,
) -> Path:
    """Write a checkpoint one tensor at a time; the folder appears when it is complete.

    Args:
        folder: new or empty, unless ``overwrite``.
        config: the architecture.
        recipe: how it was quantized.
        tensors: each with the type in which it is stored; from ``rtn``, for example.
        overwrite: whether to replace a checkpoint.
        origin: where on the hub the float weights came from, for the model card.

    Returns:
        The folder.

    Raises:
        QvggtError: the folder exists already or cannot be written, or ``tensors`` raises it.
        ValueError: the tensors are not those of ``config`` and ``recipe``.
    """
    layout = stored_layout(config, recipe)
    with new_folder(folder, FILES, overwrite) as temporary:
        check_space(folder, sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout.values()))
        with TensorFileWriter(temporary / TENSORS, layout, {"format": "pt"}) as writer:
            for name, tensor in tensors:
                writer.write(name, tensor)
        config_text = json.dumps(_config_json(config, recipe), indent=2)
        (temporary / CONFIG).write_text(config_text, encoding="utf-8", newline="\n")
        contents = {
            **recipe.to_json(),
            "config": hash_bytes(config_text.encode()),
            "header": writer.header_hash,
            "tensors": dict(sorted(writer.hashes.items())),
        }
        contents["hash"] = own_hash(contents)
        (temporary / RECIPE).write_text(json.dumps(contents, indent=2), encoding="utf-8", newline="\n")
        card = card_text(open_checkpoint(temporary), origin)
        (temporary / CARD).write_text(card, encoding="utf-8", newline="\n")
    return Path(folder)


def check_place(folder: PathLike, overwrite: bool = False) -> None:
    """Raise QvggtError if ``write_checkpoint`` would refuse the folder: call it before a long computation."""
    check_folder(folder, FILES, overwrite)


def save_checkpoint(model: VGGT, folder: PathLike, overwrite: bool = False, origin: HubOrigin | None = None) -> Path:
    """Write a quantized model's checkpoint; see ``write_checkpoint``.

    Raises:
        QvggtError: the model is not quantized, or the folder cannot be written.
    """
    if not isinstance(model, QuantizedVGGT):
        raise QvggtError("the model is not quantized: quantize it first")
    return write_checkpoint(
        folder, model.config, model.recipe, stored_tensors(model), overwrite=overwrite, origin=origin
    )


def _config_json(config: VGGTConfig, recipe: Recipe) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "qvggt_version": __version__,
        "model_type": "vggt",
        "architectures": ["VGGT"],
        "torch_dtype": recipe.float_type,
        "vggt": config.to_json(),
        "quantization_config": quantization_config(config, recipe),
    }
