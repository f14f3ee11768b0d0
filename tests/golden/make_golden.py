"""Make ``tiny.safetensors``: what a tiny VGGT on stand-in weights answers, computed by qvggt itself.

Run from the repository's root: ``python tests/golden/make_golden.py``. See README.md beside this file for when.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
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
CASES = {"nonsquare": (1, 3, 3, 70, 98), "single": (1, 1, 3, 56, 56), "batched": (2, 2, 3, 42, 70)}
DENSE = ("depth", "depth_conf", "world_points", "world_points_conf", "points_from_depth")
"""Outputs [B, S, H, W, ...] of which every STRIDE-th row and column is stored."""
STRIDE = 3


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


def strided(name: str, tensor: Tensor, stride: int) -> Tensor:
    """Keep every ``stride``-th row and column of a dense output, and all of any other."""
    return tensor[:, :, ::stride, ::stride] if name in DENSE else tensor


def main() -> None:
    """Write the file."""
    model = seeded_model(CONFIG)
    stored = {}
    for key, (case, shape) in enumerate(CASES.items()):
        drawn = np.random.Generator(np.random.Philox(key=key)).random(shape, dtype=np.float32)
        stored[f"{case}.images"] = torch.from_numpy(drawn)
        for name, tensor in outputs(model, stored[f"{case}.images"]).items():
            stored[f"{case}.{name}"] = strided(name, tensor, STRIDE).clone(memory_format=torch.contiguous_format)
    save_file(stored, GOLDEN, {"config": json.dumps(CONFIG.to_json()), "stride": str(STRIDE)})


if __name__ == "__main__":
    main()
