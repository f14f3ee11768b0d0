"""Quantized checkpoints: a folder of ``config.json``, ``model.safetensors``, ``recipe.json`` and ``README.md``.

``config.json`` has the architecture and a ``quantization_config`` that `compressed-tensors`_ reads;
``model.safetensors`` the tensors, packed as described in ``qvggt.quant.packing``; ``recipe.json`` the recipe with its
provenance, and a hash of every tensor, of the safetensors header, of ``config.json`` and of itself. ``README.md`` is
the model card: users may change it, and loading does not need it.

.. _compressed-tensors: https://github.com/vllm-project/compressed-tensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from qvggt.backends import pick
from qvggt.files import finish_folder
from qvggt.files.read import parse_json, read_json_object, read_text, reading
from qvggt.model import VGGTConfig
from qvggt.nn.convert import check_depths, fill, parameter_shapes, shell, stored_layout
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.options import Compute, check_depth
from qvggt.quant.recipe import Recipe
from qvggt.quant.source import check_tensors
from qvggt.types import PathLike, QvggtError
from qvggt.weights.tensor_file import TensorFile, hash_bytes, hash_tensors, read_header

FORMAT_VERSION = 1
CONFIG, TENSORS, RECIPE, CARD = "config.json", "model.safetensors", "recipe.json", "README.md"
FILES = (CONFIG, TENSORS, RECIPE, CARD)
"""Names of the files in a checkpoint's folder; older checkpoints have no card."""


@dataclass(frozen=True)
class Checkpoint:
    """A quantized checkpoint, opened: its small files and the tensors' header, checked against one another.

    Attributes:
        name: the model's name, as the user gave it.
        folder: the checkpoint's folder.
        config: the architecture.
        recipe: how it was quantized.
        file: the header of ``model.safetensors``.
        hashes: the expected hash of every tensor.
    """

    name: str
    folder: Path
    config: VGGTConfig
    recipe: Recipe
    file: TensorFile
    hashes: Mapping[str, str]

    @property
    def parameters(self) -> int:
        """Number of parameters of the float model."""
        return sum(math.prod(shape) for shape in parameter_shapes(self.config).values())

    @property
    def average_bits(self) -> float:
        """Bits of tensor data per parameter, scales and everything that stayed floating included."""
        names = parameter_shapes(self.config).keys() | self.recipe.quantized
        stored = (entry.nbytes for name, entry in self.file.entries.items() if name in names or _layer(name) in names)
        return 8 * sum(stored) / self.parameters

    @property
    def file_bytes(self) -> int:
        """Size of the files together, without the model card."""
        return sum((self.folder / name).stat().st_size for name in (CONFIG, TENSORS, RECIPE))

    def hash(self) -> str:
        """Return a hash of what determines the model's values: architecture, schemes, tensors, attention plan."""
        values = {
            "layers": {name: scheme.to_json() for name, scheme in self.recipe.layers.items()},
            "float_type": self.recipe.float_type,
            "config": self.config.to_json(),
            "tensors": dict(self.hashes),
            **({} if self.recipe.attention is None else {"attention_plan": self.recipe.attention.to_json()}),
        }
        return hash_bytes(json.dumps(values, sort_keys=True).encode())

    def shell(self, compute: Compute = "float32") -> QuantizedVGGT:
        """Return the model on the meta device, without values, as it computes on a CPU."""
        return shell(self.config, self.recipe, pick("cpu", compute))

    def load(
        self,
        device: str | torch.device = "cpu",
        compute: Compute = "float32",
        dtype: torch.dtype = torch.float32,
        check_hashes: bool = True,
    ) -> QuantizedVGGT:
        """Return the model; on a CPU its packed weights stay in the file's memory map.

        Args:
            device: the model's device.
            compute: how layers multiply.
            dtype: the type of activations, and of all weights that are not packed.
            check_hashes: whether to read every tensor once and compare its hash (about half a second per gigabyte, and
                the first inference reads them anyway); names, shapes, types and sizes are always checked.

        Raises:
            QvggtError: a tensor is damaged, or the device unsupported.
        """
        backend = pick(device, compute)
        if check_hashes:
            self.verify()
        model = shell(self.config, self.recipe, backend, dtype)
        return fill(model, _tensors(self.file), device).eval()

    def verify(self) -> int:
        """Hash every tensor anew and return their number.

        Raises:
            QvggtError: a hash differs (the first few tensors are named), or the file cannot be read.
        """
        found = hash_tensors(self.file)
        bad = sorted(name for name, value in found.items() if self.hashes.get(name) != value)
        if bad:
            raise QvggtError(
                f"{len(bad)} of {len(found)} tensors in {self.file.path} are damaged "
                f"({', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''}): get an intact copy"
            )
        return len(found)


def own_hash(contents: Mapping[str, Any]) -> str:
    """Return the hash of ``recipe.json`` itself, of its contents without that hash."""
    return hash_bytes(json.dumps(contents, sort_keys=True).encode())


def is_checkpoint(path: PathLike) -> bool:
    """Return whether a path is a folder with a quantized checkpoint of qvggt, intact or damaged."""
    return (Path(path) / RECIPE).is_file()


def open_checkpoint(folder: PathLike, name: str | None = None) -> Checkpoint:
    """Read and check everything but the tensors' bytes; no model is built.

    Args:
        folder: from ``write_checkpoint``.
        name: the model's name, as the user gave it; the folder if None.

    Raises:
        QvggtError: a file is missing, damaged, of another version, or disagrees with another.
    """
    folder = Path(folder)
    finish_folder(folder)
    config_text, contents = read_text(folder / CONFIG), read_json_object(folder / RECIPE)
    config = _config_from_json(folder / CONFIG, config_text)
    recipe = Recipe.from_json(contents)
    file = read_header(folder / TENSORS)
    misfit = f"{file.path} does not fit its {CONFIG} and {RECIPE}"
    check_depths(misfit, config, file.entries)
    found = {name: (entry.dtype, entry.shape) for name, entry in file.entries.items()}
    check_tensors(misfit, found, stored_layout(config, recipe))
    with reading(folder / RECIPE):
        expected = (contents.pop("hash"), contents["config"], contents["header"])
        hashes = dict(contents["tensors"])
    for part, computed, written in zip(
        (RECIPE, CONFIG, f"the header of {TENSORS}"),
        (own_hash(contents), hash_bytes(config_text.encode()), file.header_hash),
        expected,
        strict=True,
    ):
        if computed != written:
            raise QvggtError(f"{part} in {folder} was changed after it was written: get an intact copy")
    with reading(folder / RECIPE):
        check_depth(recipe.attention or "exact", config.depth)
    return Checkpoint(name or str(folder), folder=folder, config=config, recipe=recipe, file=file, hashes=hashes)


def _tensors(file: TensorFile) -> Iterator[tuple[str, Tensor]]:
    with safe_open(file.path, framework="pt") as stream:
        for name in file.entries:
            yield name, stream.get_tensor(name)


def _config_from_json(path: Path, text: str) -> VGGTConfig:
    values = parse_json(text, path)
    version = values.get("format_version") if isinstance(values, dict) else None
    if version is None:
        raise QvggtError(f"{path} has no format_version: it is damaged, or not written by qvggt")
    if version != FORMAT_VERSION:
        raise QvggtError(
            f"{path} has format version {version!r}, and this qvggt reads version {FORMAT_VERSION}: "
            "quantize again, or use the qvggt that wrote it"
        )
    with reading(path):
        return VGGTConfig.from_json(values["vggt"])


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
