import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import qvggt
from qvggt.model import VGGT, VGGTConfig
from qvggt.model.layers import Attention
from qvggt.model.merging import exact_pairs, merge_patches
from qvggt.types import QvggtError

few = settings(max_examples=30, deadline=None)
sides = st.integers(1, 7)


@few
@given(st.integers(1, 4), st.integers(0, 3), sides, sides, st.integers(1, 3))
def test_squares_of_later_frames_are_merged_and_nothing_else(frames, special, rows, columns, side):
    merging = merge_patches(frames, special, rows, columns, side)
    tokens = special + rows * columns
    groups = merging.groups.view(frames, tokens)
    assert torch.equal(groups[0], torch.arange(tokens))
    assert merging.log_count.exp().round().sum() == frames * tokens
    for frame in groups[1:]:
        assert len(set(frame[:special].tolist())) == special
        patches = frame[special:].view(rows, columns)
        assert patches.unique().numel() == -(-rows // side) * -(-columns // side)
        for y in range(rows):
            for x in range(columns):
                same = (patches == patches[y, x]).nonzero()
                assert (same // side == torch.tensor([y // side, x // side])).all()
    assert set(groups[0].tolist()).isdisjoint(groups[1:].flatten().tolist())


@few
@given(frames=st.integers(1, 3), rows=st.integers(1, 5), columns=st.integers(1, 5))
def test_means_are_those_of_the_members(frames, rows, columns):
    merging = merge_patches(frames, 1, rows, columns)
    x = torch.randn(2, 3, len(merging.groups), 4, dtype=torch.float64)
    found = merging.mean(x)
    for group in range(len(merging.log_count)):
        torch.testing.assert_close(found[:, :, group], x[:, :, merging.groups == group].mean(2))


def test_attention_is_exact_where_merged_tokens_are_alike():
    attention, merging = Attention(8, heads=2).double(), merge_patches(3, 1, 4, 3)
    tokens = torch.randn(1, len(merging.log_count), 8, dtype=torch.float64)
    x = tokens[:, merging.groups]
    torch.testing.assert_close(attention(x, None, merging), attention(x))


@torch.inference_mode()
def test_a_model_merges_where_it_is_told_to():
    torch.manual_seed(0)
    model = VGGT(VGGTConfig.micro()).eval()
    images = torch.rand(1, 3, 3, 56, 70)
    exact = model(images)
    model.aggregator.global_attention = "merged"
    merged = model(images)
    assert all(torch.isfinite(value).all() for value in merged.values())
    assert not torch.equal(merged["depth"], exact["depth"])
    alone = model(images[:, :1])
    model.aggregator.global_attention = "exact"
    torch.testing.assert_close(alone["depth"], model(images[:, :1])["depth"])


@torch.inference_mode()
def test_the_first_third_of_the_blocks_stays_exact():
    model, seen = qvggt.load("nano", global_attention="merged"), []
    for block in model.aggregator.global_blocks:
        block.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[2] is not None))
    model(torch.rand(1, 2, 3, 28, 28), heads=["camera"])
    assert seen == [False, False, True, True, True, True]
    assert [exact_pairs(depth) for depth in (1, 3, 4, 24)] == [1, 1, 2, 8]


def test_it_is_chosen_when_a_model_is_loaded():
    assert qvggt.load("nano").aggregator.global_attention == "exact"
    assert qvggt.load("nano", global_attention="merged").aggregator.global_attention == "merged"
    with pytest.raises(QvggtError, match="global attention is exact or merged, not 'fast'"):
        qvggt.load("nano", global_attention="fast")  # pyright: ignore[reportArgumentType]
