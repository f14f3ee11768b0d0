"""What the model's outputs are compared with: tensors recorded from the published implementation."""

from __future__ import annotations

import json
from dataclasses import dataclass

from safetensors import safe_open
from torch import Tensor

from golden.make_golden import CASES, GOLDEN, seeded_model
from qvggt.model import VGGT, VGGTConfig

_FIELDS = {
    "img_size": "image_size", "num_heads": "heads", "vit_num_heads": "vit_heads", "camera_num_heads": "camera_heads",
    "dpt_out_channels": "dpt_channels", "num_register_tokens": "register_tokens",
}  # fmt: skip


@dataclass(frozen=True)
class Golden:
    """A tiny model, and the outputs recorded for it.

    Attributes:
        model: with seeded weights.
        weight_hashes: SHA-256 of every weight that the recording used.
        cases: for each case's name its ``images`` and expected outputs.
    """

    model: VGGT
    weight_hashes: dict[str, str]
    cases: dict[str, dict[str, Tensor]]

    def errors(self, case: str, outputs: dict[str, Tensor]) -> dict[str, float]:
        """Return the relative error of every recorded output of a case."""
        expected = {name: tensor for name, tensor in self.cases[case].items() if name != "images"}
        return {name: relative_error(outputs[name], tensor) for name, tensor in expected.items()}


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return ‖a − b‖ / ‖b‖ of two tensors of the same shape."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def load_golden() -> Golden:
    """Read the recorded tensors, and make the weights by their rule."""
    with safe_open(GOLDEN, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    fields = {_FIELDS.get(name) or name: value for name, value in json.loads(metadata["config"]).items()}
    cases = {
        case: {name.removeprefix(f"{case}."): t for name, t in tensors.items() if name.startswith(f"{case}.")}
        for case in CASES
    }
    return Golden(seeded_model(VGGTConfig.from_json(fields)), json.loads(metadata["weights"]), cases)
