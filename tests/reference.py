"""What the model's outputs are compared with: recorded reference tensors where they are, else the golden file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from golden.make_golden import CASES, GOLDEN, seeded_model, strided
from qvggt.model import VGGT, VGGTConfig

REFERENCE = Path(os.environ.get("QVGGT_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))
"""Folder of tensors recorded from the published implementation; a clone of the repository alone has none."""

_FIELDS = {
    "img_size": "image_size", "num_heads": "heads", "vit_num_heads": "vit_heads", "camera_num_heads": "camera_heads",
    "dpt_out_channels": "dpt_channels", "num_register_tokens": "register_tokens",
}  # fmt: skip


@dataclass(frozen=True)
class Golden:
    """A tiny model, and what it must answer.

    Attributes:
        model: with its weights.
        cases: for each case's name its ``images`` and expected outputs.
        stride: of the rows and columns that are stored of dense outputs.
    """

    model: VGGT
    cases: dict[str, dict[str, Tensor]]
    stride: int

    def errors(self, case: str, outputs: dict[str, Tensor]) -> dict[str, float]:
        """Return the relative error of every stored output of a case."""
        expected = {name: tensor for name, tensor in self.cases[case].items() if name != "images"}
        return {
            name: relative_error(strided(name, outputs[name], self.stride), tensor) for name, tensor in expected.items()
        }


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return ‖a − b‖ / ‖b‖ of two tensors of the same shape."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def reference_file(name: str) -> Path:
    """Return a file of the reference folder; skip the test where it is absent."""
    path = REFERENCE / name
    if not path.is_file():
        pytest.skip(f"no recorded reference {name} (see tests/golden/README.md)")
    return path


def load_golden(path: Path) -> Golden:
    """Read the recorded tensors, or the repository's own golden file."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        fields = {_FIELDS.get(name) or name: value for name, value in json.loads(metadata["config"]).items()}
        config = VGGTConfig.from_json(fields)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    weights = {name.removeprefix("weights."): tensor for name, tensor in tensors.items() if name.startswith("weights.")}
    if weights:
        with torch.device("meta"):
            model = VGGT(config)
        model.load_state_dict(weights, assign=True)
        model.requires_grad_(False).eval()
    else:
        model = seeded_model(config)
    cases = {
        case: {name.removeprefix(f"{case}."): t for name, t in tensors.items() if name.startswith(f"{case}.")}
        for case in CASES
    }
    return Golden(model, cases, int(metadata.get("stride", 1)))


def golden_files() -> list[Path]:
    """Return the files to compare with: the repository's own, and the recorded tensors where they are."""
    return [path for path in (GOLDEN, REFERENCE / "tiny.safetensors") if path.is_file()]
