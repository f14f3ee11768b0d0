import copy
from contextlib import nullcontext
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golden.make_golden import seeded_model
from qvggt.model import VGGT, VGGTConfig, chunking
from qvggt.options import ALL_HEADS
from reference import relative_error

KEYS = {
    "camera": {"pose_enc", "pose_enc_iterations"},
    "depth": {"depth", "depth_conf"},
    "point": {"world_points", "world_points_conf"},
}
few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def assert_same(found, expected, tolerance=2e-5):
    assert set(found) == set(expected)
    errors = {name: relative_error(found[name], expected[name]) for name in expected}
    assert max(errors.values()) < tolerance, errors


@few
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), batch=st.integers(1, 2), frames=st.integers(1, 4))
def test_forward__outputs_of_any_size_have_their_shapes_and_ranges(micro, rows, columns, batch, frames):
    height, width = 14 * rows, 14 * columns
    with torch.inference_mode():
        found = micro(draw(batch, frames, 3, height, width))
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "pose_enc": (batch, frames, 9),
        "pose_enc_iterations": (4, batch, frames, 9),
        "depth": (batch, frames, height, width, 1),
        "depth_conf": (batch, frames, height, width),
        "world_points": (batch, frames, height, width, 3),
        "world_points_conf": (batch, frames, height, width),
    }
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert (found["depth"] > 0).all()
    assert (found["depth_conf"] >= 1).all()
    assert (found["world_points_conf"] >= 1).all()
    assert (found["pose_enc"][..., 7:] >= 0).all()
    assert torch.equal(found["pose_enc"], found["pose_enc_iterations"][-1])


@torch.inference_mode()
def test_forward__scenes_of_a_batch_are_independent(micro, images):
    together = micro(images)
    for index in range(len(images)):
        alone = micro(images[index : index + 1])
        part = {
            n: t[:, index : index + 1] if n == "pose_enc_iterations" else t[index : index + 1]
            for n, t in together.items()
        }
        assert_same(alone, part)


@torch.inference_mode()
def test_forward__order_of_later_frames_does_not_matter(micro):
    images, order = draw(1, 5, 3, 28, 42), [0, 3, 1, 4, 2]
    straight, permuted = micro(images), micro(images[:, order])
    straight = {n: t[:, :, order] if n == "pose_enc_iterations" else t[:, order] for n, t in straight.items()}
    assert_same(permuted, straight)


@torch.inference_mode()
def test_forward__the_first_frame_is_the_reference(micro):
    images = draw(1, 2, 3, 28, 42)
    straight, swapped = micro(images), micro(images.flip(1))
    assert relative_error(swapped["depth"].flip(1), straight["depth"]) > 1e-3


@pytest.mark.parametrize("heads", [h for n in (1, 2, 3) for h in combinations(ALL_HEADS, n)], ids="+".join)
@torch.inference_mode()
def test_forward__chosen_heads_equal_those_of_a_full_run(micro, images, heads):
    found = micro(images, heads=heads)
    assert set(found) == set().union(*(KEYS[head] for head in heads))
    full = micro(images)
    assert all(torch.equal(found[name], full[name]) for name in found)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("head", ALL_HEADS)
def test_forward__heads_that_are_not_chosen_do_not_run(micro, images, head, mode):
    def fail(*_):
        raise AssertionError(f"the {head} head ran")

    model = copy.deepcopy(micro)
    for module in model.get_submodule(f"{head}_head").modules():
        module.register_forward_pre_hook(fail)
    with mode():
        model(images, heads=set(ALL_HEADS) - {head})


@pytest.mark.parametrize(
    ("heads", "read"), [(["camera"], {5}), (["depth"], {1, 2, 3, 4}), (ALL_HEADS, {1, 2, 3, 4, 5})]
)
@torch.inference_mode()
def test_forward__only_pairs_that_heads_read_are_kept(heads, read, monkeypatch):
    model = VGGT(VGGTConfig.from_json(VGGTConfig.micro().to_json() | {"depth": 6, "dpt_layers": [1, 2, 3, 4]}))
    assert model.pairs_read_by(heads) == read
    seen, run_pairs = set(), chunking.run_pairs

    def record(*args, **options):
        for index, *pair in run_pairs(*args, **options):
            seen.add(index)
            yield index, *pair

    monkeypatch.setattr(chunking, "run_pairs", record)
    model(draw(1, 2, 3, 28, 28), heads=heads)
    assert seen == read


@torch.no_grad()
def test_aggregator__stops_after_the_last_pair_that_is_kept(micro, images, monkeypatch):
    full = micro.aggregator(images, range(4))
    monkeypatch.setattr(micro.aggregator.frame_blocks[2], "forward", None)
    part = micro.aggregator(images, {0, 1})
    assert set(part) == {0, 1}
    assert all(torch.equal(part[index], full[index]) for index in part)
    assert micro.aggregator(images, ()) == {}


@torch.no_grad()
@pytest.mark.parametrize("chunk", [7, 4000])
@pytest.mark.parametrize("keep", [{0, 2}, {3}, set()])
def test_run_pairs__equals_the_aggregator(micro, images, keep, chunk):
    wanted, found = micro.aggregator(images, keep), {}
    with torch.inference_mode():
        for index, *pair in chunking.run_pairs(micro.aggregator, images, keep, chunk):
            found[index] = torch.cat(pair, -1).unflatten(0, images.shape[:2])
    assert_same(found, wanted) if keep else None
    assert set(found) == set(wanted)


@torch.no_grad()
def test_dense_frames__bound_what_a_dense_head_sees(micro, images, monkeypatch):
    model, seen = copy.deepcopy(micro), []
    model.depth_head.scratch.output_conv1.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    for pixels, wanted in ((1 << 18, [4, 2]), (2 * images.shape[-1] * images.shape[-2], [2, 2, 2])):
        monkeypatch.setattr("qvggt.model.dense_head.DENSE_PIXELS", pixels)
        for mode in (nullcontext, torch.inference_mode):
            seen.clear()
            with mode():
                model(images, heads=["depth"], dense_frames=4)
            assert seen == wanted


@few
@given(tokens=st.integers(1, 200), dense_frames=st.integers(1, 9), merged=st.booleans())
def test_run__equals_the_plain_forward_pass(micro, images, tokens, dense_frames, merged):
    model = copy.deepcopy(micro)
    model.aggregator.global_attention = "merged" if merged else "exact"
    with torch.no_grad():
        wanted = model(images)
    with torch.inference_mode():
        assert_same(chunking.run(model, images, ALL_HEADS, dense_frames, tokens), wanted)


@torch.inference_mode()
def test_run__observer_sees_every_unit_in_running_order(micro, images):
    seen = []
    chunking.run(micro, images, ALL_HEADS, dense_frames=3, observe=lambda unit: nullcontext(seen.append(unit)))
    trunk = [unit for unit, _ in micro.blocks() if not unit.startswith("camera")]
    assert [unit for unit in seen if unit in trunk] == trunk
    assert sorted(set(seen) - set(trunk)) == sorted(
        [
            "patch_embed",
            "camera",
            *(f"{head}{level}" for head in ("depth", "point") for level in ("", "/0", "/1", "/2", "/3")),
        ]
    )
    assert seen.count("depth") == 2


@torch.inference_mode()
def test_run__does_not_change_the_images(micro, images):
    before = images.clone()
    micro(images, chunk_tokens=5)
    assert torch.equal(images, before)


@few
@given(rows=st.integers(1, 40))
@torch.inference_mode()
def test_resize_and_convolve__tiles_do_not_change_the_result(micro, images, rows):
    wanted = micro(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qvggt.model.chunking.TILE_VALUES", rows * images.shape[-1] * 6 * 32)
        assert_same(micro(images), wanted)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((3, 28, 28), {}, r"images.*\(3, 28, 28\)"),
        ((1, 2, 4, 28, 28), {}, "images"),
        ((1, 0, 3, 28, 28), {}, "empty"),
        ((1, 1, 3, 0, 28), {}, "empty"),
        ((1, 1, 3, 28, 30), {}, r"14 px.*\(28, 30\)"),
        ((1, 1, 3, 28, 28), {"heads": []}, "camera, depth, point.*none"),
        ((1, 1, 3, 28, 28), {"heads": ["depth", "track"]}, "track"),
        ((1, 1, 3, 28, 28), {"dense_frames": 0}, "dense_frames.*0"),
        ((1, 1, 3, 28, 28), {"chunk_tokens": 0}, "chunk_tokens.*0"),
    ],
)
def test_check__refuses_impossible_arguments(micro, shape, options, words):
    with pytest.raises(ValueError, match=words):
        micro(torch.zeros(shape), **options)


def test_forward__gradients_reach_every_parameter_but_the_mask_token(micro, images):
    model = copy.deepcopy(micro).requires_grad_(True)
    found = model(images)
    sum(
        found[name].square().mean() for name in ("pose_enc", "depth", "depth_conf", "world_points", "world_points_conf")
    ).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == ["aggregator.patch_embed.mask_token"]
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.inference_mode()
def test_forward__does_not_use_the_mask_token(micro, images):
    model = copy.deepcopy(micro)
    model.aggregator.patch_embed.mask_token.fill_(torch.nan)
    assert_same(model(images), micro(images), 1e-9)


def test_blocks__are_in_running_order(micro, images):
    ran, handles = [], []
    for block_id, block in micro.blocks():
        handles.append(block.register_forward_pre_hook(lambda *_, block_id=block_id: ran.append(block_id)))
    with torch.no_grad():
        micro(images)
    for handle in handles:
        handle.remove()
    ids = [block_id for block_id, _ in micro.blocks()]
    assert list(dict.fromkeys(ran)) == ids
    assert ids[:4] == ["patch_embed/0", "frame/0", "global/0", "frame/1"]
    assert ids[-1] == "camera/0"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@torch.inference_mode()
def test_forward__other_float_types_are_near_float32(micro, images, dtype):
    found = copy.deepcopy(micro).to(dtype)(images.to(dtype))
    assert {tensor.dtype for tensor in found.values()} == {dtype}
    assert_same(found, micro(images), {torch.float16: 0.02, torch.bfloat16: 0.1, torch.float64: 2e-5}[dtype])


def test_export__equals_the_model_at_a_fixed_shape():
    model = seeded_model(replace(VGGTConfig.micro(), depth=1, dpt_layers=(0, 0, 0, 0)))
    images = draw(1, 2, 3, 28, 42)
    with torch.no_grad():
        program = torch.export.export(model, (images,))
        other = draw(1, 2, 3, 28, 42, seed=5)
        assert_same(program.module()(other), model(other))


def test_forward__training_and_evaluation_mode_agree(micro, images):
    with torch.inference_mode():
        assert_same(copy.deepcopy(micro).train()(images), micro(images), 1e-9)
