"""Dense products, whichever library computes them, and attention with keys of their own in torch."""

import pytest
import torch

from qvggt.backends import ConvGeometry, dense
from qvggt.backends.base import channels_last
from qvggt.model.token_merging import Own, attend_with_own

has_onednn = pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch without oneDNN")


def error(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


@has_onednn
@pytest.mark.parametrize("shape", [(64,), (1, 64), (77, 64), (2, 3, 5, 64)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear__onednn_gives_the_same(monkeypatch, shape, has_bias):
    x, matrix, bias = torch.randn(shape), torch.randn(96, 64), torch.randn(96) if has_bias else None
    expected = x.double() @ matrix.double().T + (bias.double() if has_bias else 0)
    for lacks in (True, False):
        monkeypatch.setattr(dense, "_mkl_lacks_avx512", lambda lacks=lacks: lacks)
        found = dense.linear(x, matrix, bias)
        assert (found.shape, found.dtype) == (expected.shape, torch.float32)
        assert error(found, expected) < 1e-6


@has_onednn
def test_linear__gradients_and_graphs_are_torchs(monkeypatch):
    monkeypatch.setattr(dense, "_mkl_lacks_avx512", lambda: True)
    x, matrix = torch.randn(5, 64, requires_grad=True), torch.randn(8, 64)
    dense.linear(x, matrix, None).sum().backward()
    torch.testing.assert_close(x.grad, matrix.sum(0).expand(5, 64))
    graph = torch.export.export(Linear(), (torch.randn(5, 64), matrix)).graph_module.code
    assert "mkldnn" not in graph


class Linear(torch.nn.Module):
    def forward(self, x, matrix):
        return dense.linear(x, matrix, None)


def test_linear__empty():
    assert dense.linear(torch.empty(0, 64), torch.randn(8, 64), None).shape == (0, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("has_gradient", [True, False])
def test_attend__keys_of_their_own_are_that_of_the_definition(dtype, has_bias, has_gradient):
    q, value = torch.randn(2, 2, 3, 50, 16).to(dtype).unbind()
    k, v = torch.randn(2, 2, 3, 40, 16).to(dtype).unbind()
    q.requires_grad_(has_gradient)
    bias, score = torch.rand(1, 40) if has_bias else None, 3 * torch.randn(2, 3, 50)
    score[:, :, ::3] = -torch.inf
    found = dense.attend(q, k, v, bias, (score, value))
    expected = attend_with_own(q.double(), k.double(), v.double(), bias, Own(score.double(), value.double())).detach()
    assert found.dtype == dtype
    assert error(found.detach(), expected) < {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]


def test_log_sums__queries_in_slices_give_the_same(monkeypatch):
    q, k, bias = torch.randn(2, 2, 30, 4), torch.randn(2, 2, 20, 4), torch.rand(1, 20)
    whole = dense.log_sums(q, k, bias)
    monkeypatch.setattr(dense, "_SCORES", 300)
    torch.testing.assert_close(dense.log_sums(q, k, bias), whole)
    torch.testing.assert_close(whole, (q @ k.mT / 2 + bias).logsumexp(-1))


@pytest.mark.parametrize("batch", [1, 2])
def test_channels_last__torch_sees_the_layout_of_a_single_map_too(batch):
    tokens = torch.randn(batch, 35, 16)
    maps = tokens.transpose(1, 2).unflatten(2, (5, 7))
    found = channels_last(maps)
    assert torch.equal(found, maps)
    assert found.stride() == torch.empty(batch, 16, 5, 7).to(memory_format=torch.channels_last).stride()
    assert found.data_ptr() == maps.data_ptr()  # nothing is copied
    copied = channels_last(maps.contiguous())
    assert (copied.stride(), torch.equal(copied, maps)) == (found.stride(), True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolve__maps_keep_their_layout(dtype):
    maps = torch.randn(1, 35, 16).to(dtype).transpose(1, 2).unflatten(2, (5, 7))
    kernel = torch.randn(8, 16 * 9).to(dtype)
    found = ConvGeometry((8, 16, 3, 3), padding=(1, 1)).convolve(maps, kernel, None)
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.conv2d(maps.double(), kernel.double().view(8, 16, 3, 3), padding=1)
    assert error(found, expected) < {torch.float32: 1e-6, torch.bfloat16: 8e-3}[dtype]
