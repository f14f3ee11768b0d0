"""Builder of binary glTF 2.0 (GLB) files."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

_COMPONENT_TYPES = {np.dtype("<f4"): 5126, np.dtype("<u4"): 5125}
_ELEMENT_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
_VERTICES, _INDICES = 34962, 34963
POINTS, TRIANGLES = 0, 4


class GlbBuilder:
    """Collects the parts of one glTF asset and serializes them as a GLB.

    The file is a 12-byte header (``glTF``, version 2, length), a JSON chunk padded with spaces, and a binary chunk of
    4-byte values; everything is little-endian.
    """

    def __init__(self, generator: str, extras: Mapping[str, Any] | None = None) -> None:
        asset = {"version": "2.0", "generator": generator} | ({"extras": extras} if extras else {})
        self._json: dict[str, Any] = {"asset": asset}
        self._chunks: list[memoryview] = []
        self._length = 0

    def add(self, collection: str, item: dict[str, Any]) -> int:
        """Append ``item`` to a collection (``nodes``, ``meshes``, ``materials``, ``cameras``) and return its index."""
        self._json.setdefault(collection, []).append(item)
        return len(self._json[collection]) - 1

    def add_vertices(self, array: np.ndarray, *, bounds: bool = False) -> int:
        """Append an array [N, C] of vertex attributes and return its accessor.

        Args:
            array: float32.
            bounds: whether to record the minimum and maximum, which glTF requires of positions.
        """
        accessor = self._add_array(array, _VERTICES)
        if bounds:
            accessor["min"], accessor["max"] = array.min(0).tolist(), array.max(0).tolist()
        return self.add("accessors", accessor)

    def add_indices(self, array: np.ndarray) -> int:
        """Append triangle indices [N] uint32 and return their accessor."""
        return self.add("accessors", self._add_array(array, _INDICES))

    def _add_array(self, array: np.ndarray, target: int) -> dict[str, Any]:
        columns = array.shape[1] if array.ndim == 2 else 1
        if array.dtype not in _COMPONENT_TYPES or columns not in _ELEMENT_TYPES:
            raise ValueError(f"expected float32 or uint32 of up to 4 columns, got {array.dtype} of {array.shape}")
        data = np.ascontiguousarray(array)
        view = {"buffer": 0, "byteOffset": self._length, "byteLength": data.nbytes, "target": target}
        self._chunks.append(data.reshape(-1).view(np.uint8).data)
        self._length += data.nbytes
        return {
            "bufferView": self.add("bufferViews", view),
            "componentType": _COMPONENT_TYPES[array.dtype],
            "count": len(array),
            "type": _ELEMENT_TYPES[columns],
        }

    def add_unlit_material(self, name: str, color_linear: tuple[float, float, float]) -> int:
        """Append an unlit material of a linear RGB color in 0..1 and return its index."""
        extensions = self._json.setdefault("extensionsUsed", [])
        if "KHR_materials_unlit" not in extensions:
            extensions.append("KHR_materials_unlit")
        material = {
            "name": name,
            "pbrMetallicRoughness": {"baseColorFactor": [*color_linear, 1.0], "metallicFactor": 0.0},
            "extensions": {"KHR_materials_unlit": {}},
            "doubleSided": True,
        }
        return self.add("materials", material)

    def chunks(self, roots: list[int]) -> list[bytes | memoryview]:
        """Return the consecutive pieces of the GLB for a scene whose root nodes are ``roots``."""
        document = {"scene": 0, "scenes": [{"nodes": roots}], **self._json}
        if self._length:
            document["buffers"] = [{"byteLength": self._length}]
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        pieces: list[bytes | memoryview] = [struct.pack("<II", len(text), 0x4E4F534A), text]
        if self._length:
            pieces += [struct.pack("<II", self._length, 0x004E4942), *self._chunks]
        total = 12 + sum(map(len, pieces))
        return [struct.pack("<III", 0x46546C67, 2, total), *pieces]


def linear_from_srgb(srgb: np.ndarray) -> np.ndarray:
    """Return linear RGB of sRGB values, both in 0..1; glTF stores linear colors."""
    srgb = np.asarray(srgb, np.float64)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
