import importlib.util
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from golden.make_golden import CASES, GOLDEN, outputs
from qvggt.geometry import pose_encoding_to_cameras
from qvggt.model import VGGT, VGGTConfig
from qvggt.weights.open import load_float, open_weights
from qvggt.weights.seeded import SeededSource, seeded_array
from reference import REFERENCE, golden_files, load_golden, reference_file, relative_error

RECORDED = {
    "pose_enc", "pose_enc_iterations", "depth", "depth_conf", "world_points", "world_points_conf",
    "tokens_first", "tokens_last", "extrinsics", "intrinsics", "points_from_depth",
}  # fmt: skip


@pytest.fixture(scope="module", params=golden_files(), ids=lambda path: path.parent.name)
def source(request):
    return load_golden(request.param)


@pytest.mark.parametrize("case", CASES)
def test_every_recorded_tensor_is_met(source, case):
    errors = source.errors(case, outputs(source.model, source.cases[case]["images"]))
    assert set(errors) == RECORDED
    assert max(errors.values()) < 1e-5, errors


def test_golden_file_is_small():
    assert GOLDEN.stat().st_size <= 2_000_000


def test_reference_weights_follow_the_seeded_rule():
    with safe_open(reference_file("tiny.safetensors"), "pt") as file:
        for name in file.keys():  # noqa: SIM118
            if name.startswith("weights."):
                tensor = file.get_tensor(name).numpy()
                np.testing.assert_array_equal(seeded_array(name.removeprefix("weights."), tensor.shape), tensor)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("aggregator.frame_blocks.0.ls1.gamma", (1024,)),
        ("aggregator.frame_blocks.0.norm1.weight", (1024,)),
        ("aggregator.frame_blocks.3.attn.qkv.weight", (96, 32)),
        ("aggregator.frame_blocks.3.attn.qkv.bias", (96,)),
        ("camera_head.pose_branch.fc2.bias", (9,)),
        ("camera_head.empty_pose_tokens", (1, 1, 9)),
        ("aggregator.camera_token", (1, 2, 1, 64)),
        ("aggregator.patch_embed.pos_embed", (1, 26, 64)),
        ("aggregator.patch_embed.patch_embed.proj.weight", (64, 3, 14, 14)),
        ("depth_head.scratch.layer1_rn.weight", (32, 16, 3, 3)),
    ],
)
def test_seeded_rule_is_the_reference_rule(name, shape):
    spec = importlib.util.spec_from_file_location("seeded_weights", reference_file("seeded_weights.py"))
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    np.testing.assert_array_equal(seeded_array(name, shape), rule.seeded_tensor(name, shape))


def test_names_and_shapes_are_the_published_ones():
    published = json.loads(reference_file("vggt_1b_shapes.json").read_text())
    with torch.device("meta"):
        state = VGGT(VGGTConfig.vggt_1b()).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == {
        name: shape for name, shape in published.items() if not name.startswith("track_head.")
    }


def test_seeded_source_draws_all_names_of_the_model(golden):
    source = SeededSource(golden.model.config)
    assert source.names() == list(golden.model.state_dict())
    name = "camera_head.pose_branch.fc2.bias"
    assert source.shape(name) == tuple(source.tensor(name).shape) == (9,)
    assert torch.equal(source.tensor(name), source.tensor(name))


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs the recorded full-size tensors")
def test_full_size_parity(record_property):
    with safe_open(reference_file("vggt_1b_expected.safetensors"), "pt") as file:
        expected = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = load_float(open_weights("seeded:vggt-1b"))
    drawn = np.random.Generator(np.random.Philox(key=99)).random((1, 2, 3, 280, 392), dtype=np.float32)
    found = full_size_outputs(model, torch.from_numpy(drawn))
    errors = {name: relative_error(found[name], tensor) for name, tensor in expected.items()}
    for name, error in errors.items():
        record_property(name, error)
    print("\n" + "\n".join(f"{name:22s} {error:.1e}" for name, error in errors.items()))  # noqa: T201
    assert max(errors.values()) < 1e-3, errors


def full_size_outputs(model, images):
    """Everything recorded at full size, from one pass through the aggregator."""
    aggregated = {}

    def keep(_module, _inputs, kept):
        aggregated.update(kept)

    handle = model.aggregator.register_forward_hook(keep)
    try:
        with torch.inference_mode():
            result = model(images)
    finally:
        handle.remove()
    result["extrinsics"], result["intrinsics"] = pose_encoding_to_cameras(result["pose_enc"], images.shape[-2:])
    dense = ("depth", "depth_conf", "world_points", "world_points_conf")
    result |= {name: result[name][:, :, ::7, ::7] for name in dense}
    result |= {f"tokens_{layer}_camera": tokens[:, :, 0] for layer, tokens in aggregated.items()}
    result["tokens_last"] = aggregated[model.config.depth - 1][:, :, ::20, ::8]
    return result
