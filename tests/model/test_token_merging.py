import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import qvggt
from qvggt.model import VGGT, VGGTConfig
from qvggt.model.chunking import run_block
from qvggt.model.layers import Attention, Block
from qvggt.model.token_merging import EXACT, Merging, averaged, exact_pairs, merging_for, patch_groups
from qvggt.types import QvggtError

few = settings(max_examples=30, deadline=None)
sides = st.integers(1, 7)


@few
@given(st.integers(1, 4), st.integers(0, 3), sides, sides, st.integers(1, 3))
def test_patch_groups__only_patches_of_later_frames_are_grouped(frames, special, rows, columns, side):
    found = patch_groups(frames, special, rows, columns, side)
    tokens = special + rows * columns
    groups = found.of.view(frames, tokens)
    assert torch.equal(groups[0], torch.arange(tokens))
    assert found.log_count.exp().round().sum() == frames * tokens
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
def test_averaged__means_of_the_group_members(frames, rows, columns):
    groups = patch_groups(frames, 1, rows, columns, 2)
    x = torch.randn(2, 3, len(groups.of), 4, dtype=torch.float64)
    found = averaged(x, groups)
    for group in range(len(groups.log_count)):
        torch.testing.assert_close(found[:, :, group], x[:, :, groups.of == group].mean(2))
    assert averaged(x.half(), groups).dtype == torch.half
    assert averaged(x, None) is x


@pytest.mark.parametrize("asked", [None, 2, 4])
def test_attention__exact_if_merged_tokens_are_equal(asked):
    keys = patch_groups(3, 1, 6, 5, 4)
    merging = Merging(keys, asked and patch_groups(3, 1, 6, 5, asked))
    x = torch.randn(1, len(keys.log_count), 8, dtype=torch.float64)[:, keys.of]
    attention = Attention(8, heads=2).double()
    torch.testing.assert_close(attention(x, None, merging), attention(x))


@torch.inference_mode()
@pytest.mark.parametrize("asked", [None, 2])
@pytest.mark.parametrize("in_place", [False, True])
def test_run_block__merging_in_chunks_equals_the_block(asked, in_place):
    torch.manual_seed(0)
    block, merging = (
        Block(16, heads=2).eval(),
        Merging(patch_groups(3, 2, 5, 7, 3), asked and patch_groups(3, 2, 5, 7, asked)),
    )
    x = torch.randn(2, 3 * 37, 16)
    whole = block(x, None, merging)
    chunked = run_block(block, x.clone(), None, merging, 10, in_place)
    torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=1e-5)


def test_merging_for__groups_grow_with_the_image_and_queries_are_grouped_too():
    for patches, keys, queries in ((6, 3, None), (18, 9, None), (26, 13, None), (28, 10, None), (37, 10, 19)):
        merging = merging_for(2, 5, patches, patches)
        assert merging.keys is not None
        special = 2 * 5 + patches**2
        assert len(merging.keys.log_count) - special == keys**2
        assert (merging.queries and len(merging.queries.log_count) - special) == (queries and queries**2)


@torch.inference_mode()
def test_global_attention__merged_changes_results_and_exact_restores_them():
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


@torch.no_grad()
def test_exact_pairs__the_first_quarter_of_the_global_blocks_is_exact():
    model, seen = qvggt.load("nano", global_attention="merged"), []
    for block in model.aggregator.global_blocks:
        block.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[2] is not EXACT))
    model(torch.rand(1, 2, 3, 28, 28), heads=["camera"])
    assert seen == [False] * 3 + [True] * 6
    assert [exact_pairs(depth) for depth in (1, 3, 4, 6, 24)] == [1, 1, 1, 2, 6]


def test_load__chooses_global_attention():
    assert qvggt.load("nano").aggregator.global_attention == "exact"
    assert qvggt.load("nano", global_attention="merged").aggregator.global_attention == "merged"
    with pytest.raises(QvggtError, match="fast"):
        qvggt.load("nano", global_attention="fast")
