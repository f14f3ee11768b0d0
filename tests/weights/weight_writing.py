"""Writes the micro model's stand-in weights in every form in which weights come."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from qvggt.model import VGGTConfig
from qvggt.weights.seeded import SeededSource

SOURCE = SeededSource(VGGTConfig.micro())


def micro_state() -> dict[str, Tensor]:
    """Return the weights, fresh."""
    return {name: SOURCE.tensor(name) for name in SOURCE.names()}


def write_safetensors(path: Path, state: dict[str, Tensor] | None = None) -> Path:
    """Write one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(micro_state() if state is None else state, path)
    return path


def write_torch(path: Path, content: object = None, zipped: bool = True) -> Path:
    """Write a ``.pt`` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(micro_state() if content is None else content, path, _use_new_zipfile_serialization=zipped)
    return path


def write_shards(folder: Path, stem: str = "model") -> Path:
    """Write three files and their index, and return the index."""
    names, weight_map = SOURCE.names(), {}
    for part in range(3):
        file = f"{stem}-{part + 1:05d}-of-00003.safetensors"
        state = {name: SOURCE.tensor(name) for name in names[part::3]}
        write_safetensors(folder / file, state)
        weight_map |= dict.fromkeys(state, file)
    index = folder / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def write_hub_cache(cache: Path, hub_id: str, commit: str, refs: tuple[str, ...] = ("main",)) -> Path:
    """Make an empty snapshot of a hub repository in a cache, as the hub's client lays it out; return its folder."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for ref in refs:
        path = repository / "refs" / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit)
    return snapshot
