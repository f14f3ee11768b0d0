"""Attention, and norm and rotary embedding of queries and keys, on bfloat16 in C, against float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qvggt.backends import BACKENDS, operators
from qvggt.backends.native import half_products, halves, library, processors
from qvggt.model.layers import normalized_and_rotated, rope_table
from qvggt.model.token_merging import Own, attend_with_own
from qvggt.quant.affine import quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme

HALF = torch.bfloat16
EPS = torch.finfo(HALF).eps
HEADS = torch.empty(1, 1, 1, halves.CHANNELS, dtype=HALF)
needs_units = pytest.mark.skipif(not halves.supports(HEADS), reason="no AVX-512 BF16, or no compiler")


def heads(batch, count, length, seed=0):
    """Return what a fused projection gives: views of one tensor [batch, length, 3, count, 64]."""
    generator = torch.Generator().manual_seed(seed)
    fused = torch.randn(batch, length, 3, count, halves.CHANNELS, generator=generator).to(HALF)
    return fused.permute(2, 0, 3, 1, 4).unbind(0)


@needs_units
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 3), (12, 128), (130, 257), (700, 129)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_attend__equals_float64(queries, keys, has_bias):
    q, (_, k, v) = heads(2, 3, queries)[0], heads(2, 3, keys, 1)
    bias = torch.rand(1, keys) * 3 if has_bias else None
    found = halves.attend(q, k, v, bias)
    expected = F.scaled_dot_product_attention(
        q.double(), k.double(), v.double(), None if bias is None else bias.double()
    )
    assert (found.dtype, found.shape) == (HALF, q.shape)
    assert float((found.double() - expected).norm() / expected.norm()) < EPS / 2


@needs_units
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (130, 257), (700, 129)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_attend__keys_of_their_own_are_that_of_the_definition(queries, keys, has_bias):
    (q, _, value), (_, k, v) = heads(2, 3, queries), heads(2, 3, keys, 1)
    bias = torch.rand(1, keys) * 3 if has_bias else None
    score = 4 * torch.randn(2, 3, queries)
    score[:, :, ::3] = -torch.inf
    found = halves.attend(q, k, v, bias, score, value)
    expected = attend_with_own(q.double(), k.double(), v.double(), bias, Own(score.double(), value.double()))
    assert float((found.double() - expected).norm() / expected.norm()) < EPS / 2
    none = torch.full_like(score, -torch.inf)
    assert torch.equal(halves.attend(q, k, v, bias, none, value), halves.attend(q, k, v, bias))


@needs_units
@pytest.mark.parametrize(("batch", "count"), [(2, 2), (1, 3)])
def test_attend__keys_of_another_batch_or_number_of_heads_are_refused(batch, count):
    q, (_, k, v) = heads(2, 3, 5)[0], heads(batch, count, 7)
    with pytest.raises(ValueError, match=r"expected a torch.bfloat16 tensor \[2, 3, 7, 64\]"):
        halves.attend(q, k, v, None)


@needs_units
def test_attend__scores_far_apart_and_not_finite():
    q, k, v = heads(1, 2, 40)
    found = halves.attend(200 * q, k, v, None)
    expected = F.scaled_dot_product_attention(200 * q.double(), k.double(), v.double())
    assert float((found.double() - expected).norm() / expected.norm()) < 2 * EPS
    k = k.clone()
    k[0, 1, 7, 3] = torch.nan
    found = halves.attend(q, k, v, None)
    assert found[0, 0].isfinite().all()
    assert found[0, 1].isnan().all()


@needs_units
@pytest.mark.parametrize("has_norm", [True, False])
def test_rotate__equals_norm_and_rotary_embedding(has_norm):
    x = heads(2, 3, 35)[0]
    rope = rope_table(torch.stack((torch.arange(35) // 6, torch.arange(35) % 6), -1), halves.CHANNELS, torch.float32)
    norm = nn.LayerNorm(halves.CHANNELS) if has_norm else nn.Identity()
    for parameter in norm.requires_grad_(False).parameters():
        nn.init.normal_(parameter)
    weight, bias = (getattr(norm, name, None) for name in ("weight", "bias"))
    found = operators.rotate_bfloat16(x, weight, bias, 1e-5, *rope)
    expected = normalized_and_rotated(x.float(), norm, rope)
    assert found.is_contiguous()
    assert float((found.float() - expected).norm() / expected.norm()) < EPS / 2


@needs_units
def test_the_backend_uses_the_kernel_and_torch_agrees(monkeypatch):
    q, k, v = heads(1, 2, 80)
    found = BACKENDS["cpu-bfloat16"].attend(q.float(), k, v, None)
    monkeypatch.setenv("QVGGT_NATIVE", "0")
    assert not halves.supports(q)
    expected = BACKENDS["cpu-bfloat16"].attend(q, k, v, None)
    assert expected.dtype == found.dtype == HALF
    assert float((found.float() - expected.float()).norm() / expected.float().norm()) < 2 * EPS


def test_supports__other_heads_and_types_go_to_torch():
    assert not halves.supports(HEADS.float())
    assert not halves.supports(HEADS[..., :32])


def kernels_results():
    q, k, v = heads(2, 3, 150)
    x, bias = torch.randn(77, 256, generator=torch.Generator().manual_seed(0)).to(HALF), torch.rand(96)
    weight = pack(quantize(torch.randn(96, 256, generator=torch.Generator().manual_seed(1)), Scheme(4, 32)))
    own = torch.randn(2, 3, 150, generator=torch.Generator().manual_seed(2))
    attended = halves.attend(q, k, v, torch.linspace(0, 3, 150), own, v)
    return [attended, halves.attend(q, k, v, None), half_products.multiply(x, weight, 0 * bias)]


@needs_units
@pytest.mark.native
@pytest.mark.parametrize("flags", [(), ("-DEMULATE_TILES",)], ids=["vectors", "tiles"])
def test_vectors_and_emulated_tiles_agree_with_what_this_cpu_uses(monkeypatch, flags):
    usual = kernels_results()
    monkeypatch.setattr(library, "special_flags", lambda _: (*processors.X86.features["avx512_bf16"], *flags))
    library._outcome.cache_clear()
    try:
        assert library.unavailable_reason() is None
        found = kernels_results()
    finally:
        library._outcome.cache_clear()
    for one, other in zip(found, usual, strict=True):
        assert float((one.float() - other.float()).norm() / other.float().norm()) < EPS


def test_features__tiles_that_the_system_does_not_allow_are_not_there(monkeypatch):
    capabilities = {"avx512_f": True, "amx_tile": True, "amx_bf16": True, "amx_int8": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    for allowed in (True, False):
        monkeypatch.setattr(torch.cpu, "_init_amx", lambda allowed=allowed: allowed, raising=False)
        assert set(processors.features()) == (set(capabilities) if allowed else {"avx512_f"})


@needs_units
@pytest.mark.parametrize("name", ["attention_bfloat16", "rotate_bfloat16", "linear_bfloat16"])
def test_operators__fakes_have_the_layout_of_results(name):
    q, k, v = heads(2, 3, 20)
    weight = pack(quantize(torch.randn(32, halves.CHANNELS), Scheme(4, 32)))
    given = {
        "attention_bfloat16": (q, k, v, torch.rand(20), torch.rand(2, 3, 20), v),
        "rotate_bfloat16": (q, None, None, 1e-5, *torch.randn(2, 20, halves.CHANNELS)),
        "linear_bfloat16": (q, *operators.weight_arguments(weight), None),
    }[name]
    torch.library.opcheck(getattr(operators, name), given, test_utils=("test_schema", "test_faketensor"))


@needs_units
@pytest.mark.parametrize("rows", [64, 77, 1374])
@pytest.mark.parametrize(
    ("outputs", "width", "scheme"),
    [
        (32, 64, Scheme(4, 32)),
        (64, 96, Scheme(3, 32, symmetric=False)),
        (96, 256, Scheme(8, -1)),
        (352, 1024, Scheme(4, 128)),
    ],
)
def test_multiply__equals_float64_of_the_expanded_weight(rows, outputs, width, scheme):
    generator = torch.Generator().manual_seed(rows)
    weight = pack(quantize(torch.randn(outputs, width, generator=generator), scheme))
    x, bias = torch.randn(rows, width, generator=generator).to(HALF), torch.randn(outputs, generator=generator)
    expanded = BACKENDS["plain"].expand(weight, HALF).double()
    assert half_products.supports(x, weight)
    for shift in (bias, None):
        found = BACKENDS["cpu-bfloat16"].linear(x, weight, shift)
        expected = x.double() @ expanded.T + (0 if shift is None else shift)
        assert found.dtype == HALF
        assert float((found.double() - expected).norm() / expected.norm()) < EPS / 2


def test_multiply__what_the_kernel_does_not_support_goes_to_torch():
    weight = pack(quantize(torch.randn(32, 64), Scheme(4, 32)))
    assert not half_products.supports(torch.randn(100, 64), weight)
    assert not half_products.supports(torch.randn(10, 64).to(HALF), weight)
    odd = pack(quantize(torch.randn(40, 64), Scheme(4, 32)))
    assert not half_products.supports(torch.randn(100, 64).to(HALF), odd)
    assert BACKENDS["cpu-bfloat16"].linear(torch.randn(100, 64).to(HALF), odd, None).shape == (100, 40)
