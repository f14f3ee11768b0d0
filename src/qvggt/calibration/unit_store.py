"""What was done to each unit, kept on disk as it comes, so that an interrupted quantization goes on."""

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
from safetensors.torch import save_file
from torch import Tensor

from qvggt.files import make_folder, new_file
from qvggt.files.read import parse_json, read_json, read_text, reading
from qvggt.quant.affine import Grid, QuantizedTensor
from qvggt.quant.scheme import LayerScheme, Scheme, scheme_from_json
from qvggt.types import BlockId, LayerId, PathLike, QvggtError

SETTINGS = "settings.json"
SCHEMES = "schemes.json"
TEMPORARY = ".qvggt-"
"""How the name of a file begins that was being written when the process was killed."""


@dataclass(frozen=True)
class UnitResult:
    """What a method made of a unit.

    Attributes:
        weights: integers for each layer that is to hold some.
        parameters: new values of float parameters (norms and biases that absorbed scales), by their full names.
        notes: JSON-ready findings for the report.
    """

    weights: Mapping[LayerId, QuantizedTensor]
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class UnitStore:
    """A folder with one file a unit and the settings that determine them.

    Args:
        folder: made if it is not there.
        settings: JSON-ready; what was kept under others is refused.

    Raises:
        QvggtError: the folder holds results of other settings or something else, or cannot be written.
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
                "or remove the folder to begin anew"
            )

    @property
    def empty(self) -> bool:
        """Whether nothing was kept yet."""
        return not (self.folder / SCHEMES).exists() and not any(self.folder.glob("[!.]*.safetensors"))

    def remove(self) -> None:
        """Remove all that is kept, and the folder if it holds nothing else."""
        remove_store(self.folder)

    def get(self, unit: BlockId) -> UnitResult | None:
        """Return what was kept of a unit, or None."""
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
            return None  # damaged: it is made again

    def put(self, unit: BlockId, result: UnitResult) -> None:
        """Keep what was made of a unit.

        Raises:
            QvggtError: it cannot be written.
        """
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
            save_file(tensors, temporary, {"about": text, "hash": _hash(text, tensors)})

    def get_schemes(self) -> tuple[dict[LayerId, LayerScheme], dict[str, Any]] | None:
        """Return the schemes and what was noted of their choice, or None."""
        try:
            values = read_json(self.folder / SCHEMES, allow_nan=True)
            with reading(self.folder / SCHEMES):
                if values.pop("hash") != _hash(json.dumps(values)):
                    return None
                schemes = {LayerId(name): scheme_from_json(one) for name, one in values["schemes"].items()}
                return schemes, dict(values["about"])
        except QvggtError:
            return None  # not made yet, or damaged: it is made again

    def put_schemes(self, schemes: Mapping[LayerId, LayerScheme], about: Mapping[str, Any]) -> None:
        """Keep the schemes that were chosen, and JSON-ready notes of the choice."""
        values = {"schemes": {layer: scheme.to_json() for layer, scheme in schemes.items()}, "about": about}
        with new_file(self.folder / SCHEMES, overwrite=True) as temporary:
            temporary.write_text(json.dumps({**values, "hash": _hash(json.dumps(values))}), encoding="utf-8")

    def _path(self, unit: BlockId) -> Path:
        return self.folder / f"{unit.replace('/', '-')}.safetensors"


def check_store(folder: PathLike) -> None:
    """Raise QvggtError if a folder is neither missing nor empty nor one of unit results."""
    folder = Path(folder)
    if not folder.exists() or (folder / SETTINGS).is_file():
        return
    if not folder.is_dir() or any(not path.name.startswith(TEMPORARY) for path in folder.iterdir()):
        raise QvggtError(
            f"{folder} is where results are to be kept until all are there, and holds something else: "
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
    """Remove a folder of unit results; what else lies in it stays, and the folder with it.

    Raises:
        QvggtError: it is no such folder.
    """
    check_store(folder)
    folder = Path(folder)
    # The settings go last: what is left of an interrupted removal is still a folder of unit results.
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
        raise ValueError(f"expected integers for {layer}")
    return QuantizedTensor(
        tensors[f"{layer}/codes"], Grid(tensors[f"{layer}/scale"], tensors.get(f"{layer}/zero_point")), scheme
    )
