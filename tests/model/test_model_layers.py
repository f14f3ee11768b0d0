import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qvggt.model import VGGTConfig
from qvggt.model.dense_head import Fusion, add_position
from qvggt.model.layers import Attention, apply_rope, rope_table
from qvggt.model.vit import VisionTransformer

few = settings(max_examples=20, deadline=None)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@few
@given(positions=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=6))
def test_apply_rope__keeps_lengths(positions):
    x = draw(1, 2, len(positions), 16)
    turned = apply_rope(x, rope_table(torch.tensor(positions), 16, x.dtype))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)


@few
@given(
    first=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    second=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    shift=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_apply_rope__products_depend_on_the_offset_alone(first, second, shift):
    def product(a, b):
        table = rope_table(torch.tensor([a, b]), 16, torch.float64)
        x = apply_rope(draw(1, 1, 2, 16), table)[0, 0]
        return x[0] @ x[1]

    def moved(position):
        return position[0] + shift[0], position[1] + shift[1]

    torch.testing.assert_close(product(first, second), product(moved(first), moved(second)), rtol=0, atol=1e-4)


def test_apply_rope__origin_is_fixed_and_halves_belong_to_row_and_column():
    x = draw(1, 1, 1, 16)
    table = lambda row, column: rope_table(torch.tensor([[row, column]]), 16, x.dtype)  # noqa: E731
    assert torch.equal(apply_rope(x, table(0, 0)), x)
    assert torch.equal(apply_rope(x, table(3, 0))[..., 8:], x[..., 8:])
    assert torch.equal(apply_rope(x, table(0, 3))[..., :8], x[..., :8])


def test_attention__is_softmax_of_scaled_products():
    attention = Attention(8, heads=2).double()
    x = draw(1, 5, 8)
    q, k, v = attention.qkv(x).chunk(3, -1)
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        weights = (q[..., h] @ k[..., h].transpose(-1, -2) / 2).softmax(-1)
        heads.append(weights @ v[..., h])
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(heads, -1)))


def test_fusion__convolution_and_resize_commute():
    fusion = Fusion(8, has_skip=False).double()
    x = draw(1, 8, 3, 4)
    resized = nn.functional.interpolate(fusion.resConfUnit2(x), (6, 9), mode="bilinear", align_corners=True)
    found = nn.functional.interpolate(fusion(x), (6, 9), mode="bilinear", align_corners=True)
    torch.testing.assert_close(found, fusion.out_conv(resized))


def test_position_embedding__stored_grid_is_exact_and_class_position_is_fixed():
    vit = VisionTransformer(VGGTConfig.micro())
    nn.init.normal_(vit.pos_embed)
    assert vit.position_embedding(4, 4) is vit.pos_embed
    resized = vit.position_embedding(3, 7)
    assert resized.shape == (1, 22, 64)
    assert torch.equal(resized[:, 0], vit.pos_embed[:, 0])


def test_position_embedding__constant_grid_stays_constant():
    vit = VisionTransformer(VGGTConfig.micro())
    nn.init.constant_(vit.pos_embed, 0.7)
    torch.testing.assert_close(vit.position_embedding(5, 9), torch.full((1, 46, 64), 0.7))


def test_add_position__sines_are_odd_and_cosines_even():
    embedding = add_position(torch.zeros(1, 16, 6, 4), aspect=4 / 6)[0]
    sines, cosines = embedding[[0, 1, 2, 3]], embedding[[4, 5, 6, 7]]
    torch.testing.assert_close(sines.flip(-1), -sines, rtol=0, atol=1e-6)
    torch.testing.assert_close(cosines.flip(-1), cosines, rtol=0, atol=1e-6)
