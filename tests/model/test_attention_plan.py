"""Global attention by a plan: every kind against a loop over tokens, whole and in chunks."""

import copy
import json
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qvggt.calibration.units import model_units, run_units, start
from qvggt.model.aggregator import normalize
from qvggt.model.chunking import run_block
from qvggt.model.layers import Attention, Block, rope_table
from qvggt.model.token_merging import EXACT, Own, attend_with_own, pooled
from qvggt.types import AttentionPlan, BlockAttention, PlanLevel, QvggtError

SPECIAL, ROWS, COLUMNS = 2, 5, 4
TOKENS = SPECIAL + ROWS * COLUMNS


def plan(*blocks: str, min_frames: int = 1) -> AttentionPlan:
    return AttentionPlan((PlanLevel(min_frames, tuple(map(BlockAttention.parse, blocks))),))


def _sample(frame, members):
    return members[int(frame * (math.sqrt(5) - 1) / 2 % 1 * len(members))]


def looped(q, k, v, frames, side, sampled):
    """Pooled or sampled attention [heads, N, C], one query at a time, from its definition."""
    places = [(frame, token) for frame in range(frames) for token in range(TOKENS)]
    groups = {}
    for index, (frame, token) in enumerate(places):
        row, column = divmod(token - SPECIAL, COLUMNS)
        averaged = frame > 0 and token >= SPECIAL
        groups.setdefault((frame, row // side, column // side) if averaged else index, []).append(index)
    averaged = [index for index, (frame, token) in enumerate(places) if frame > 0 and token >= SPECIAL]
    taken = {key: [_sample(places[members[0]][0], members)] if sampled else members for key, members in groups.items()}
    sizes = {key: len(members) for key, members in groups.items()}
    out = torch.empty_like(q)
    for head in range(len(q)):
        means = {key: (k[head, members].mean(0), v[head, members].mean(0)) for key, members in taken.items()}
        keys = [(*means[key], sizes[key]) for key in groups]
        if averaged:
            parts = [(*means[key], sizes[key]) for key in groups if isinstance(key, tuple)]
            keys.append((*(sum(part[i] * part[2] for part in parts) / len(averaged) for i in (0, 1)), 1))
        for index in range(len(places)):
            mine = [(k[head, index], v[head, index], 1)] if index in averaged else []
            weights = [n * math.exp(float(q[head, index] @ key) / math.sqrt(len(key))) for key, _, n in keys + mine]
            values = [value for _, value, _ in keys + mine]
            out[head, index] = sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights)
    return out


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("side", [1, 2, 3, 9])
@pytest.mark.parametrize("sampled", [False, True])
def test_attention__pooled_and_sampled_are_the_loop_over_queries(frames, side, sampled):
    torch.manual_seed(0)
    attention, merging = Attention(8, heads=2).double(), pooled(frames, SPECIAL, ROWS, COLUMNS, side, sampled=sampled)
    attention.requires_grad_(False)
    x = torch.randn(2, frames * TOKENS, 8, dtype=torch.float64)
    rope = rope_table(torch.arange(2 * frames * TOKENS).view(-1, 2), 4, torch.float64)
    expected = [
        looped(*(part[b] for part in attention.queries_keys_values(x, rope)), frames, side, sampled) for b in range(2)
    ]
    expected = attention.proj(torch.stack(expected).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, rope, merging), expected, atol=1e-7, rtol=1e-6)


def test_pooled__of_one_frame_is_exact():
    assert pooled(1, SPECIAL, ROWS, COLUMNS, 2) is EXACT


def test_attention__pooled_1_counts_each_patch_of_later_frames_twice_for_itself_and_adds_their_mean():
    """The documented relation of pooled 1 to exact attention: the same keys, and two more."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 2 * TOKENS, 4, dtype=torch.float64)
    merging = pooled(2, SPECIAL, ROWS, COLUMNS, 1)
    own = Own.of(q, k, v, merging.pooling.own)
    found = attend_with_own(q, merging.reduced(k), merging.reduced(v), merging.bias(q.dtype), own)
    patches = slice(TOKENS + SPECIAL, None)
    for index in range(2 * TOKENS):
        more = [index] if index >= TOKENS + SPECIAL else []
        keys, values = (torch.cat((x[0, 0], x[0, 0, patches].mean(0, keepdim=True), x[0, 0, more])) for x in (k, v))
        expected = (keys @ q[0, 0, index] / 2).softmax(0) @ values
        torch.testing.assert_close(found[0, 0, index], expected, atol=1e-6, rtol=1e-5)


def test_attention__pooled_of_equal_patches_differs_from_exact_only_by_the_two_added_keys():
    torch.manual_seed(0)
    attention, merging = Attention(8, heads=2).double(), pooled(3, 0, 6, 5, 4)
    x = torch.randn(1, 1, 8, dtype=torch.float64).expand(1, 90, 8)
    torch.testing.assert_close(attention(x, None, merging), attention(x))


@torch.inference_mode()
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("tokens", [1, 10, 44, 65, 1000])
@pytest.mark.parametrize("sampled", [False, True])
def test_run_block__pooled_and_sampled_in_chunks_equal_the_block(tokens, in_place, sampled):
    torch.manual_seed(0)
    block, merging = Block(16, heads=2, qk_norm=True).eval(), pooled(3, SPECIAL, ROWS, COLUMNS, 2, sampled=sampled)
    x = torch.randn(2, 3 * TOKENS, 16)
    rope = rope_table(torch.arange(6 * TOKENS).view(-1, 2), 8, torch.float32)
    whole = block(x, rope, merging)
    torch.testing.assert_close(
        run_block(block, x.clone(), rope, merging, tokens, in_place), whole, atol=2e-6, rtol=1e-5
    )


def test_attend_with_own__queries_in_slices_give_the_same(monkeypatch):
    q, k, v = torch.randn(3, 2, 2, 30, 4)
    own = Own(torch.randn(2, 2, 30), torch.randn(2, 2, 30, 4))
    whole = attend_with_own(q, k, v, None, own)
    monkeypatch.setattr("qvggt.model.token_merging._SCORES", 500)
    torch.testing.assert_close(attend_with_own(q, k, v, None, own), whole)


def test_attend_with_own__large_scores_do_not_overflow():
    q, k, v = (100 * torch.randn(3, 1, 1, 5, 4)).unbind()
    own = Own.of(q, k, v, torch.zeros(5))
    assert attend_with_own(q, k, v, None, own).isfinite().all()


@pytest.mark.parametrize(("rows", "columns", "side"), [(6, 6, 2), (5, 4, 3), (7, 3, 2)])
def test_pooled__samples_one_patch_of_each_group_and_in_turn_all_of_them(rows, columns, side):
    groups = pooled(40, 1, rows, columns, side, sampled=True).keys
    tokens = 1 + rows * columns
    assert torch.equal(groups.of[groups.sample], torch.arange(len(groups.log_count)))
    assert torch.equal(groups.sample[:tokens], torch.arange(tokens))
    frame, patch = groups.sample.div(tokens, rounding_mode="floor"), groups.sample % tokens
    assert patch[(frame > 0) & (patch > 0)].unique().numel() == rows * columns


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 3])
def test_plan__frame_in_all_blocks_equals_attention_within_each_frame(micro, frames):
    model = copy.deepcopy(micro)
    aggregator, depth = model.aggregator, model.config.depth
    images = torch.rand(2, frames, 3, 42, 56)
    aggregator.global_attention = plan(*["frame"] * depth)
    found = aggregator(images, {depth - 1})[depth - 1].flatten(0, 1)
    patches = aggregator.patch_embed(normalize(images).flatten(0, 1))
    frames_alone = aggregator.with_special_tokens(patches, frames).split(1)
    rope = aggregator.layout(images, patches.dtype).frame_rope
    for index, x in enumerate(frames_alone):
        for pair in range(depth):
            frame_block, global_block = aggregator.blocks_of(pair)
            in_frame = frame_block(x, rope)
            x = global_block(in_frame, rope)
        torch.testing.assert_close(found[index : index + 1], torch.cat((in_frame, x), -1), atol=1e-5, rtol=1e-5)


MIXED = ("exact", "frame", "pooled 2", "sampled 3")


@torch.no_grad()
def test_plan__each_block_runs_as_the_plan_says(micro):
    model, seen = copy.deepcopy(micro), []
    model.aggregator.global_attention = plan(*MIXED)
    for block in model.aggregator.global_blocks:
        block.register_forward_pre_hook(lambda _, arguments: seen.append((arguments[0].shape[:2], arguments[2])))
    model(torch.rand(2, 3, 3, 56, 42), heads=["camera"])
    tokens = model.special_tokens + 4 * 3
    assert [shape for shape, _ in seen] == [(2, 3 * tokens), (6, tokens), (2, 3 * tokens), (2, 3 * tokens)]
    keys = [merging.keys and len(merging.keys.log_count) for _, merging in seen]
    assert keys == [None, None, 17 + 2 * (5 + 4), 17 + 2 * (5 + 2)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tokens=st.integers(1, 200), frames=st.integers(1, 4))
def test_plan__in_chunks_and_by_units_equals_the_plain_forward_pass(micro, tokens, frames):
    model = copy.deepcopy(micro)
    model.aggregator.global_attention = plan(*MIXED)
    images = torch.rand(2, frames, 3, 56, 70)
    with torch.no_grad():
        whole = model(images)
        state = start(images)
        by_units = run_units(model, model_units(model), state).outputs
    with torch.inference_mode():
        chunked = model(images, chunk_tokens=tokens)
    for name, value in whole.items():
        torch.testing.assert_close(chunked[name], value, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(by_units[name], value, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_plan__exact_everywhere_or_in_scenes_below_min_frames_changes_nothing(micro):
    model, images = copy.deepcopy(micro), torch.rand(1, 3, 3, 56, 56)
    expected = model(images)
    for chosen in (plan(*["exact"] * 4), plan(*MIXED, min_frames=4)):
        model.aggregator.global_attention = chosen
        assert all(torch.equal(value, expected[name]) for name, value in model(images).items())
    model.aggregator.global_attention = plan(*MIXED, min_frames=3)
    assert not torch.equal(model(images)["depth"], expected["depth"])


@torch.no_grad()
def test_plan__compiles_and_exports(micro):
    model, images = copy.deepcopy(micro), torch.rand(1, 3, 3, 28, 28)
    model.aggregator.global_attention = plan(*MIXED)
    expected = model(images, heads=["camera"])["pose_enc"]
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images, heads=["camera"])["pose_enc"], expected)
    exported = torch.export.export(model, (images,), {"heads": ("camera",)}, strict=False).module()
    torch.testing.assert_close(exported(images, heads=("camera",))["pose_enc"], expected)


@pytest.mark.parametrize("text", ["exact", "frame", "pooled 2", "sampled 10"])
def test_block_attention__its_text_names_it(text):
    assert str(BlockAttention.parse(text)) == text


@pytest.mark.parametrize("text", ["", "exact 2", "pooled", "pooled x", "pooled 0", "frame 1", "merged", "pooled -1"])
def test_block_attention__refuses_what_does_not_exist(text):
    with pytest.raises(QvggtError, match="expected exact, frame"):
        BlockAttention.parse(text)


def test_attention_plan__the_last_level_that_a_scene_reaches_applies():
    levels = plan("frame", "exact", min_frames=2).levels + plan("frame", "pooled 2", min_frames=10).levels
    chosen = AttentionPlan(levels)
    found = {frames: " ".join(map(str, chosen.at(frames))) for frames in (1, 2, 9, 10, 500)}
    few, many = "frame exact", "frame pooled 2"
    assert found == {1: "exact exact", 2: few, 9: few, 10: many, 500: many}
    assert AttentionPlan.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "version None"),
        ({"version": 2, "levels": []}, "version 2"),
        ([], "version None"),
        ({"version": 1}, "levels"),
        ({"version": 1, "levels": []}, "increasing min_frames"),
        ({"version": 1, "levels": [{"min_frames": 0, "blocks": ["exact"]}]}, "increasing min_frames"),
        ({"version": 1, "levels": [{"min_frames": 2, "blocks": []}]}, "every global block"),
        ({"version": 1, "levels": [{"min_frames": "x", "blocks": ["exact"]}]}, "damaged"),
        ({"version": 1, "levels": [{"min_frames": 1, "blocks": ["fast"]}]}, "fast"),
    ],
)
def test_attention_plan__refuses_damaged_values(values, words):
    with pytest.raises(QvggtError, match=words):
        AttentionPlan.from_json(values)
