"""The result of each unit on disk, from which an interrupted quantization is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from qvggt.files import make_folder, new_file
from qvggt.files.read import parse_json, read_json, read_text, reading
from qvggt.quant.affine import Grid, QuantizedTensor
from qvggt.quant.scheme import LayerScheme, Scheme, scheme_from_json
from qvggt.types import BlockId, LayerId, PathLike, QvggtError

SETTINGS = "settings.json"
SCHEMES = "schemes.json"
TEMPORARY = ".qvggt-"
"""Prefix of temporary files, which remain if the process is killed while writing."""


@dataclass(frozen=True)
class UnitResult:
    """A quantized unit.

    Attributes:
        weights: codes and grid of each quantized layer.
        parameters: new values of float parameters (norms and biases that absorbed scales), by full name.
        notes: JSON-ready findings for the report.
    """

    weights: Mapping[LayerId, QuantizedTensor]
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device) -> UnitResult:
        """Return the result on a device."""
        weights = {layer: weight.to(device) for layer, weight in self.weights.items()}
        return UnitResult(weights, {name: value.to(device) for name, value in self.parameters.items()}, self.notes)


class UnitStore:
    """A folder with one file per unit, and the settings that determine their content.

    Args:
        folder: created if it does not exist.
        settings: JSON-ready; a folder with other settings is refused.

    Raises:
        QvggtError: the folder has other settings or other content, or cannot be written.
    """

    def __init__(self, folder: PathLike, settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        check_store(self.folder)
        make_folder(self.folder)
        path, text = self.folder / SETTINGS, json.dumps(settings, indent=1, sort_keys=True)
        if not path.exists():
            with new_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        elif read_text(path) != text:
            raise QvggtError(
                f"{self.folder} holds an interrupted quantization with other settings: resume with the same options, "
                "or start again with --overwrite"
            )

    @property
    def empty(self) -> bool:
        """Whether it has no results yet."""
        return not (self.folder / SCHEMES).exists() and not any(self.folder.glob("[!.]*.safetensors"))

    def remove(self) -> None:
        """Remove all results, and the folder if nothing else is in it."""
        remove_store(self.folder)

    def get(self, unit: BlockId) -> UnitResult | None:
        """Return a unit's result, or None if there is none or it is damaged."""
        path = self._path(unit)
        if not path.exists():
            return None
        try:
            with reading(path), safe_open(path, framework="pt") as file:
                metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                if metadata["hash"] != _hash(metadata["about"], tensors):
                    return None
                about = parse_json(metadata["about"], path, allow_nan=True)
                weights = {
                    LayerId(layer): _weight(tensors, layer, scheme_from_json(scheme))
                    for layer, scheme in about["schemes"].items()
                }
                parameters = {name: tensors[f"{name}/value"] for name in about["parameters"]}
                return UnitResult(weights, parameters, dict(about["notes"]))
        except (SafetensorError, QvggtError):
            return None

    def put(self, unit: BlockId, result: UnitResult) -> None:
        """Store a unit's result, from any device.

        Raises:
            QvggtError: it cannot be written.
        """
        result = result.to(torch.device("cpu"))
        tensors: dict[str, Tensor] = {}
        for layer, weight in result.weights.items():
            tensors[f"{layer}/codes"], tensors[f"{layer}/scale"] = weight.codes, weight.grid.scale
            if weight.grid.zero_point is not None:
                tensors[f"{layer}/zero_point"] = weight.grid.zero_point
        tensors |= {f"{name}/value": value for name, value in result.parameters.items()}
        about = {
            "schemes": {layer: weight.scheme.to_json() for layer, weight in result.weights.items()},
            "parameters": list(result.parameters),
            "notes": dict(result.notes),
        }
        tensors, text = {name: tensor.contiguous() for name, tensor in tensors.items()}, json.dumps(about)
        with new_file(self._path(unit), overwrite=True) as temporary:
            temporary.write_bytes(save(tensors, {"about": text, "hash": _hash(text, tensors)}))

    def get_schemes(self) -> tuple[dict[LayerId, LayerScheme], dict[str, Any]] | None:
        """Return the chosen schemes and the notes on them, or None if there are none or they are damaged."""
        try:
            values = read_json(self.folder / SCHEMES, allow_nan=True)
            with reading(self.folder / SCHEMES):
                if values.pop("hash") != _hash(json.dumps(values)):
                    return None
                schemes = {LayerId(name): scheme_from_json(one) for name, one in values["schemes"].items()}
                return schemes, dict(values["about"])
        except QvggtError:
            return None

    def put_schemes(self, schemes: Mapping[LayerId, LayerScheme], about: Mapping[str, Any]) -> None:
        """Store the chosen schemes, and JSON-ready notes on the choice."""
        values = {"schemes": {layer: scheme.to_json() for layer, scheme in schemes.items()}, "about": about}
        with new_file(self.folder / SCHEMES, overwrite=True) as temporary:
            temporary.write_text(json.dumps({**values, "hash": _hash(json.dumps(values))}), encoding="utf-8")

    def _path(self, unit: BlockId) -> Path:
        return self.folder / f"{unit.replace('/', '-')}.safetensors"


def check_store(folder: PathLike) -> None:
    """Raise QvggtError unless a folder is missing, empty, or one of unit results."""
    folder = Path(folder)
    if not folder.exists() or (folder / SETTINGS).is_file():
        return
    if not folder.is_dir() or any(not path.name.startswith(TEMPORARY) for path in folder.iterdir()):
        raise QvggtError(
            f"{folder} is needed for intermediate results, but contains something else: "
            "move it away, or choose another folder for the checkpoint"
        )


def stored_settings(folder: PathLike) -> Mapping[str, Any] | None:
    """Return the settings of a folder of unit results, or None if it is none or is damaged."""
    path = Path(folder) / SETTINGS
    try:
        return read_json(path) if path.is_file() else None
    except QvggtError:
        return None


def remove_store(folder: PathLike) -> None:
    """Remove a folder of unit results; other files in it stay, and then the folder too.

    Raises:
        QvggtError: it is not a folder of unit results.
    """
    check_store(folder)
    folder = Path(folder)
    # Settings last, so that after an interrupted removal it is still recognized as a folder of unit results.
    for path in (*folder.glob("*.safetensors"), *folder.glob(f"{TEMPORARY}*"), folder / SCHEMES, folder / SETTINGS):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _hash(text: str, tensors: Mapping[str, Tensor] | None = None) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted((tensors or {}).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _weight(tensors: Mapping[str, Tensor], layer: str, scheme: LayerScheme) -> QuantizedTensor:
    if not isinstance(scheme, Scheme):
        raise ValueError(f"expected an integer scheme for {layer}")
    return QuantizedTensor(
        tensors[f"{layer}/codes"], Grid(tensors[f"{layer}/scale"], tensors.get(f"{layer}/zero_point")), scheme
    )
