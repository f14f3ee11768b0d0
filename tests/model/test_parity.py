import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from golden.make_golden import CASES, GOLDEN, outputs, weight_hash
from qvggt.geometry import pose_encoding_to_cameras
from qvggt.model import VGGT, VGGTConfig
from qvggt.weights.open import load_float, open_weights
from qvggt.weights.seeded import SeededSource
from reference import relative_error

RECORDED = {
    "pose_enc", "pose_enc_iterations", "depth", "depth_conf", "world_points", "world_points_conf",
    "tokens_first", "tokens_last", "extrinsics", "intrinsics", "points_from_depth",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_run__every_recorded_tensor_is_met(golden, case):
    errors = golden.errors(case, outputs(golden.model, golden.cases[case]["images"]))
    assert set(errors) == RECORDED
    assert max(errors.values()) < 1e-5, errors


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_forward__plain_outputs_are_the_recorded_ones(golden, case):
    found = golden.model(golden.cases[case]["images"])
    errors = {name: relative_error(value, golden.cases[case][name]) for name, value in found.items()}
    assert max(errors.values()) < 5e-6, errors


def test_golden_file_is_small():
    assert GOLDEN.stat().st_size <= 2_000_000


def test_seeded_weights_are_those_of_the_recording(golden):
    state = golden.model.state_dict()
    assert {name: weight_hash(tensor.numpy()) for name, tensor in state.items()} == golden.weight_hashes


def test_names_and_shapes_are_the_published_ones():
    published = json.loads(GOLDEN.with_name("vggt_1b_shapes.json").read_text())
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
def test_forward__full_size_outputs_are_the_recorded_ones(record_property):
    with safe_open(GOLDEN.with_name("vggt_1b_expected.safetensors"), "pt") as file:
        expected = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = load_float(open_weights("seeded:vggt-1b"))
    drawn = np.random.Generator(np.random.Philox(key=99)).random((1, 2, 3, 280, 392), dtype=np.float32)
    found, chunked = full_size_outputs(model, torch.from_numpy(drawn))
    assert max(relative_error(chunked[name], found[name]) for name in chunked) < 1e-4
    errors = {name: relative_error(found[name], tensor) for name, tensor in expected.items()}
    for name, error in errors.items():
        record_property(name, error)
    print("\n" + "\n".join(f"{name:22s} {error:.1e}" for name, error in errors.items()))  # noqa: T201
    assert max(errors.values()) < 1e-3, errors


def full_size_outputs(model, images):
    """Return everything recorded at full size, from one plain forward pass, and the outputs in chunks."""
    aggregated = {}

    def keep(_module, _inputs, kept):
        aggregated.update(kept)

    handle = model.aggregator.register_forward_hook(keep)
    try:
        with torch.no_grad():
            result = model(images)
    finally:
        handle.remove()
    dense = ("depth", "depth_conf", "world_points", "world_points_conf")
    with torch.inference_mode():
        chunked = model(images, chunk_tokens=512)
    chunked |= {name: chunked[name][:, :, ::7, ::7] for name in dense}
    result["extrinsics"], result["intrinsics"] = pose_encoding_to_cameras(result["pose_enc"], images.shape[-2:])
    result |= {name: result[name][:, :, ::7, ::7] for name in dense}
    result |= {f"tokens_{layer}_camera": tokens[:, :, 0] for layer, tokens in aggregated.items()}
    result["tokens_last"] = aggregated[model.config.depth - 1][:, :, ::20, ::8]
    return result, chunked
