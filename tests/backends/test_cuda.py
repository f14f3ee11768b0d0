"""What of the CUDA backend runs without a GPU: it is plain there, and asks for the fastest way elsewhere."""

import sys

import pytest
import torch
from packed_weights import weight_of
from torch import Tensor

from qvggt.backends import cuda
from qvggt.backends.cuda import CudaBackend
from qvggt.quant.scheme import Scheme


@pytest.fixture
def without_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "qvggt.backends.fused", raising=False)
    cuda._fused.cache_clear()
    yield
    cuda._fused.cache_clear()


@pytest.mark.usefixtures("without_triton")
def test_without_triton_weights_are_expanded():
    exact, weight = weight_of(24, 96, Scheme(4, 32))
    x = torch.randn(2, 5, 96)
    ways = CudaBackend().candidates(x, weight, None)
    assert list(ways) == ["expand"]
    torch.testing.assert_close(ways["expand"](), x @ exact.T)


def test_tokens_up_to_a_power_of_two_share_a_choice(monkeypatch):
    _, weight = weight_of(24, 96, Scheme(4, 32))
    tasks = []
    monkeypatch.setattr(Tensor, "is_cuda", True)
    backend = CudaBackend()
    monkeypatch.setattr(backend, "_fastest", lambda task, ways: tasks.append(task))
    for tokens in (1, 2, 3, 4, 5, 8, 9):
        backend.linear(torch.empty(1, tokens, 96), weight, None)
    assert [task[-1] for task in tasks] == [0, 1, 2, 2, 3, 3, 4]
    assert len({task[:-1] for task in tasks}) == 1


def test_a_gradient_takes_the_plain_way(monkeypatch):
    _, weight = weight_of(24, 96, Scheme(4, 32))
    monkeypatch.setattr(Tensor, "is_cuda", True)
    x = torch.randn(5, 96, requires_grad=True)
    CudaBackend().linear(x, weight, None).sum().backward()
    assert x.grad is not None
