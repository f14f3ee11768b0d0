"""Attention in compiled code against attention in double precision."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.backends.cpu_native import CpuNativeBackend
from qvggt.backends.native.attention import Attention, attend, can_attend
from qvggt.backends.native.jobs import is_compiled
from qvggt.backends.native.library import unavailable_reason
from qvggt.model.token_merging import Own, attend_with_own

COMPILED = unavailable_reason() is None and is_compiled(Attention)
pytestmark = pytest.mark.skipif(not COMPILED, reason="no compiled attention on this machine")


def drawn(seed, batch, heads, queries, keys, channels, gain):
    generator = torch.Generator().manual_seed(seed)
    sizes = (queries, gain), (keys, gain), (keys, 1)
    return [torch.randn(batch, heads, many, channels, generator=generator) * size for many, size in sizes]


def exact(q, k, v, bias=None):
    return F.scaled_dot_product_attention(q.double(), k.double(), v.double(), None if bias is None else bias.double())


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


@given(
    st.integers(0, 9), st.integers(1, 2), st.integers(1, 3), st.integers(1, 150), st.integers(1, 200),
    st.sampled_from((16, 32, 64, 128)), st.sampled_from((0.1, 1, 4)), st.booleans(), st.integers(1, 3),
)  # fmt: skip
@settings(deadline=None, max_examples=100)
def test_it_is_that_of_the_numbers(seed, batch, heads, queries, keys, channels, gain, has_bias, threads):
    torch.set_num_threads(threads)
    q, k, v = drawn(seed, batch, heads, queries, keys, channels, gain)
    bias = 3 * torch.rand(1, keys) if has_bias else None
    assert error(attend(q, k, v, bias), exact(q, k, v, bias)) < (1e-2 if gain > 1 else 2e-3)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (150, 200), (1700, 129)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_keys_of_their_own_are_that_of_the_definition(queries, keys, has_bias):
    q, k, v = drawn(0, 2, 3, queries, keys, 64, 1)
    bias = 3 * torch.rand(1, keys) if has_bias else None
    score, value = 4 * torch.randn(2, 3, queries), torch.randn(2, 3, queries, 64)
    score[:, :, ::3] = -torch.inf
    expected = attend_with_own(q, k, v, bias, Own(score, value))
    assert error(attend(q, k, v, bias, score, value), expected) < 2e-3
    none = torch.full_like(score, -torch.inf)
    assert torch.equal(attend(q, k, v, bias, none, value), attend(q, k, v, bias))


@pytest.mark.parametrize("threads", [1, 3])
def test_long_sequences_are_shared_out(threads):
    torch.set_num_threads(threads)
    q, k, v = drawn(0, 1, 2, 1700, 1500, 64, 1)
    assert error(attend(q, k, v, None), exact(q, k, v)) < 1e-3


def test_threads_do_not_change_a_bit():
    q, k, v = drawn(0, 1, 3, 700, 900, 64, 1)
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(attend(q, k, v, None))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_tensors_may_lie_in_memory_as_a_fused_projection_leaves_them():
    qkv = torch.randn(2, 90, 3, 4, 32)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    assert error(attend(q, k, v, None), exact(q, k, v)) < 1e-3
    q, k, v = (tensor.transpose(2, 3).contiguous().transpose(2, 3) for tensor in (q, k, v))
    assert error(attend(q, k, v, None), exact(q, k, v)) < 1e-3


def test_heads_of_a_token_are_side_by_side():
    out = attend(*drawn(0, 2, 4, 80, 70, 32, 1), None)
    assert out.transpose(1, 2).is_contiguous()


def test_many_small_scores_beside_a_large_one_keep_their_weight():
    # One key at 11 above 20000 others: rounded against it, each of them would be 0.27 of a level.
    q, k = torch.ones(1, 1, 64, 16), torch.zeros(1, 1, 20001, 16)
    k[..., -1, :] = 11 / 4
    v = torch.zeros(1, 1, 20001, 16)
    v[..., :-1, :] = 1
    assert error(attend(q, k, v, None), exact(q, k, v)) < 3e-3  # those in its block are lost


def test_equal_values_come_out_as_they_are():
    q, k, _ = drawn(0, 1, 1, 70, 130, 64, 3)
    v = torch.full_like(k, 0.7)
    assert (attend(q, k, v, None) - 0.7).abs().max() < 1e-6


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(value):
    q, k, v = drawn(0, 1, 1, 70, 130, 16, 1)
    q[0, 0, 3, 5] = value
    found = attend(q, k, v, None)
    assert found[0, 0, 3].isnan().all()
    assert found[0, 0, :3].isfinite().all()
    assert found[0, 0, 4:].isfinite().all()
    for spoiled in ("key", "value"):
        q, k, v = drawn(0, 1, 1, 70, 130, 16, 1)
        {"key": k, "value": v}[spoiled][0, 0, 100] = value
        assert attend(q, k, v, None).isnan().all(), spoiled


def test_the_backend_leaves_few_tokens_and_odd_widths_to_torch():
    backend = CpuNativeBackend()
    few, odd = drawn(0, 1, 2, 5, 200, 64, 1), drawn(0, 1, 2, 100, 100, 24, 1)
    wide = drawn(0, 1, 2, 100, 100, 144, 1)
    assert [can_attend(q) for q, _, _ in (few, odd, wide)] == [True, False, False]
    for q, k, v in (few, odd, wide):
        assert torch.equal(backend.attend(q, k, v, None), F.scaled_dot_product_attention(q, k, v))


def test_halves_are_taken_as_they_are():
    q, k, v = (tensor.half() for tensor in drawn(0, 1, 2, 100, 150, 64, 1))
    found = attend(q, k, v, None)
    assert found.dtype == torch.float32
    assert torch.equal(found, attend(q.float(), k.float(), v.float(), None))
    few = CpuNativeBackend().attend(q[:, :, :5], k, v, None)
    assert error(few, exact(q[:, :, :5], k, v)) < 1e-5
