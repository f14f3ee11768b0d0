import copy

import pytest
import torch
from torch import nn

from golden.make_golden import CONFIG, seeded_model
from qvggt.model.producers import absorb, scale_paths
from reference import relative_error


@pytest.fixture(scope="module")
def tiny():
    return seeded_model(CONFIG)


def parts(model):
    """Return (module, dotted name) of the parts whose paths together are all of the model's."""
    aggregator = model.aggregator
    yield aggregator.patch_embed, "aggregator.patch_embed"
    yield aggregator.frame_blocks, "aggregator.frame_blocks"
    yield aggregator.global_blocks, "aggregator.global_blocks"
    yield model.camera_head, "camera_head"


def all_paths(model):
    return [path for module, name in parts(model) for path in scale_paths(module, name)]


def folded(model, paths, seed=0):
    """Return a copy of a model in which random scales have moved along paths, and the scales by consumer."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    scales = {}
    for path in paths:
        scale = torch.exp(torch.randn(model.get_submodule(path.consumer).in_features, generator=generator))
        names = [f"{layer}.{leaf}" for layer in (path.producer, path.consumer) for leaf in ("weight", "bias")]
        parameters = {name: model.get_parameter(name).detach() for name in names}
        before = {name: value.clone() for name, value in parameters.items()}
        kept = dict(parameters)
        absorb(parameters, path, scale)
        assert all(torch.equal(kept[name], before[name]) for name in names)  # new tensors, not changed ones
        for name, value in parameters.items():
            model.get_parameter(name).data = value
        scales[path.consumer] = scale
    return model, scales


def test_scale_paths__of_every_block_and_the_pose_branch(tiny):
    blocks = CONFIG.vit_depth + 2 * CONFIG.depth + CONFIG.camera_trunk_depth
    paths = all_paths(tiny)
    assert len(paths) == 3 * blocks + 1
    assert len({path.consumer for path in paths}) == len(paths)
    assert paths[-1].producer == "camera_head.trunk_norm"
    assert not any(path.consumer.endswith("fc2") for path in paths)


def test_scale_paths__widths_of_producer_and_consumer_agree(tiny):
    for path in all_paths(tiny):
        producer, consumer = tiny.get_submodule(path.producer), tiny.get_submodule(path.consumer)
        assert isinstance(consumer, nn.Linear)
        width = producer.weight.shape[0] // (3 if path.values else 1)
        assert width == consumer.in_features


def test_scale_paths__of_one_block(tiny):
    paths = list(scale_paths(tiny.aggregator.frame_blocks[1], "x.y"))
    assert [path.consumer for path in paths] == ["x.y.attn.qkv", "x.y.attn.proj", "x.y.mlp.fc1"]
    assert list(scale_paths(tiny.depth_head, "depth_head")) == []


@pytest.mark.parametrize("shape", [(2, 2, 3, 42, 70), (1, 1, 3, 28, 28)])
def test_absorb__all_paths_preserve_the_function(tiny, shape):
    changed, _ = folded(tiny, all_paths(tiny))
    images = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected, found = tiny(images), changed(images)
    assert {name: relative_error(found[name], value) < 1e-5 for name, value in expected.items()} == dict.fromkeys(
        expected, True
    )


def test_absorb__a_scale_and_its_inverse_cancel(tiny):
    paths = list(scale_paths(tiny.aggregator.global_blocks[0], "aggregator.global_blocks.0"))
    first, scales = folded(tiny, paths)
    back = copy.deepcopy(first)
    for path in paths:
        names = [f"{layer}.{leaf}" for layer in (path.producer, path.consumer) for leaf in ("weight", "bias")]
        parameters = {name: back.get_parameter(name).detach() for name in names}
        absorb(parameters, path, 1 / scales[path.consumer])
        for name, value in parameters.items():
            back.get_parameter(name).data = value
    for name, parameter in tiny.named_parameters():
        assert torch.allclose(back.get_parameter(name), parameter, rtol=1e-5, atol=1e-7), name


def test_absorb__consumers_see_inputs_divided_by_the_scale(tiny):
    paths = [path for path in all_paths(tiny) if "frame_blocks.0." in path.consumer]
    changed, scales = folded(tiny, paths)
    seen = {}
    for key, model in (("before", tiny), ("after", changed)):
        handles = [
            model.get_submodule(path.consumer).register_forward_pre_hook(
                lambda _, inputs, at=(key, path.consumer): seen.__setitem__(at, inputs[0].clone())
            )
            for path in paths
        ]
        with torch.inference_mode():
            model(torch.rand(1, 2, 3, 28, 28, generator=torch.Generator().manual_seed(3)))
        for handle in handles:
            handle.remove()
    for path in paths:
        expected = seen["before", path.consumer] / scales[path.consumer]
        assert relative_error(seen["after", path.consumer], expected) < 1e-5
