import numpy as np
import pytest
import torch
from PIL import Image

import qvggt
from qvggt.data.rooms.family import SPLITS, load_rooms
from qvggt.model import VGGT, VGGTConfig
from qvggt.train.nano_hard import aa_mlps, fit_detector, harden
from qvggt.train.optim import initialize
from qvggt.train.reserve import reserved_units
from qvggt.weights.open import EMBEDDED
from qvggt.weights.pretrained import sample_cameras, sample_images


def test_nano_is_small_enough_to_carry():
    assert sum(path.stat().st_size for path in EMBEDDED["nano"]) <= 13_000_000
    model = qvggt.load("nano")
    assert model.config == VGGTConfig.nano()
    assert sum(parameter.numel() for parameter in model.parameters()) <= 6_500_000


def test_nano_leaves_the_reserved_units_unused():
    for _, mlp in aa_mlps(qvggt.load("nano")):
        fc1, fc2 = mlp.get_parameter("fc1.weight"), mlp.get_parameter("fc2.weight")
        units = reserved_units(len(fc1))
        assert not fc1[units].any()
        assert not fc2[:, units].any()


def test_nano_hard_says_what_nano_says():
    nano, hard = qvggt.load("nano"), qvggt.load("nano-hard")
    for scene in load_rooms("val", (84, 112), scenes=2):
        images = torch.from_numpy(scene.images)[None]
        with torch.inference_mode():
            expected, found = nano(images), hard(images)
        for name, tensor in expected.items():
            assert float((found[name] - tensor).norm() / tensor.norm()) < 1e-4, name


def test_hardening_a_model_changes_its_unused_units_only():
    model = VGGT(VGGTConfig.micro())
    initialize(model, seed=0)
    with torch.no_grad():  # alike, as training makes them enough to be told from patches
        model.aggregator.register_token.copy_(model.aggregator.register_token[:, :1, :1].clone())
    model.eval()
    images = [torch.from_numpy(scene.images) for scene in load_rooms("calib", (56, 56), scenes=2)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    changed = harden(model, images)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    units = reserved_units(256)
    others = [unit for unit in range(256) if unit not in units]
    for name, tensor in changed.items():
        old = before[name].half()
        kept = (tensor[:, others], old[:, others]) if name.endswith("fc2.weight") else (tensor[others], old[others])
        assert torch.equal(*kept)
        if name.endswith("fc2.weight"):
            assert not tensor[:, units].float().sum(1).any()


def test_what_cannot_be_told_apart_is_refused():
    tokens = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="cannot be told"):
        fit_detector(tokens, tokens + 0.01, 20.0)
    weight, bias = fit_detector(tokens + 9, tokens, 20.0)
    assert float(((tokens + 9) @ weight + bias).min()) == pytest.approx(20, rel=1e-3)
    assert float((tokens @ weight + bias).max()) == pytest.approx(-6, rel=1e-3)


def test_the_sample_scene_is_complete():
    paths, cameras = sample_images(), sample_cameras()
    assert len(paths) == len(cameras) == 8
    assert {Image.open(path).size for path in paths} == {(518, 392)}
    np.testing.assert_allclose(
        cameras[:, :, :3] @ cameras[:, :, :3].transpose(0, 2, 1), np.tile(np.eye(3), (8, 1, 1)), atol=1e-5
    )


def test_the_sample_rooms_seed_is_in_no_split():
    assert not any(7000124 in split.seeds for split in SPLITS.values())
