"""The tiny VGGT whose outputs were recorded, and what is compared; makes the golden files from a folder of recordings.

Run from the repository's root: ``python tests/golden/make_golden.py FOLDER``. README.md beside this file says how the
tensors were recorded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from qvggt import geometry
from qvggt.model import VGGT, VGGTConfig
from qvggt.weights.seeded import SeededSource

GOLDEN = Path(__file__).with_name("tiny.safetensors")
CONFIG = VGGTConfig(
    image_size=70, patch_size=14, embed_dim=64, vit_depth=3, vit_heads=4, depth=4, heads=4,
    camera_trunk_depth=2, camera_heads=4, dpt_features=32, dpt_channels=(16, 24, 32, 32), dpt_layers=(0, 1, 2, 3),
)  # fmt: skip
CASES = ("nonsquare", "single", "batched")


def weight_hash(values: np.ndarray) -> str:
    """Return the SHA-256 of a weight's shape and float32 bytes."""
    return hashlib.sha256(repr(values.shape).encode() + values.astype("<f4").tobytes()).hexdigest()


def seeded_model(config: VGGTConfig) -> VGGT:
    """Return a model with the stand-in weights."""
    with torch.device("meta"):
        model = VGGT(config)
    source = SeededSource(config)
    model.load_state_dict({name: source.tensor(name) for name in source.names()}, assign=True)
    return model.requires_grad_(False).eval()


def outputs(model: VGGT, images: Tensor) -> dict[str, Tensor]:
    """Return everything that is compared: the model's outputs, tokens on the way, and the geometry they imply."""
    last = model.config.depth - 1
    with torch.inference_mode():
        result = model(images)
        tokens = model.aggregator(images, {0, last})
        result |= {"tokens_first": tokens[0], "tokens_last": tokens[last]}
        cameras = geometry.pose_encoding_to_cameras(result["pose_enc"], (images.shape[-2], images.shape[-1]))
        result["extrinsics"], result["intrinsics"] = cameras
        result["points_from_depth"] = geometry.unproject(result["depth"][..., 0], cameras[1], cameras[0])
    return result


def main() -> None:
    """Keep of the recorded tensors everything but the weights, of which a hash each is kept."""
    recorded = Path(sys.argv[1])
    with safe_open(recorded / "tiny.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        config = file.metadata()["config"]
    weights = {name: tensor for name, tensor in tensors.items() if name.startswith("weights.")}
    hashes = {name.removeprefix("weights."): weight_hash(tensor.numpy()) for name, tensor in weights.items()}
    stored = {name: tensor for name, tensor in tensors.items() if name not in weights}
    save_file(stored, GOLDEN, {"config": config, "weights": json.dumps(hashes, sort_keys=True)})
    for name in ("vggt_1b_expected.safetensors", "vggt_1b_shapes.json"):
        shutil.copyfile(recorded / name, GOLDEN.with_name(name))


if __name__ == "__main__":
    main()
