"""What a CUDA GPU computes, against the CPU in float32; skipped where there is none."""

import pytest
import torch
from packed_weights import weight_of

import qvggt
from qvggt.api.quantize import quantize_to
from qvggt.backends import BACKENDS, pick
from qvggt.backends.cuda import CudaBackend
from qvggt.model.token_merging import Own, attend_with_own
from qvggt.quant.scheme import Scheme

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")

TOLERANCES = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def error(found, expected):
    return float((found.double().cpu() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("tokens", [1, 77, 1374])
@pytest.mark.parametrize(
    "scheme", [Scheme(4, 128), Scheme(2, 32, symmetric=False), Scheme(3, 32), Scheme(8, -1)], ids=str
)
def test_every_kernel_equals_the_definition(dtype, tokens, scheme):
    exact, weight = weight_of(320, 512, scheme)
    x, bias = torch.randn(tokens, 512).to(dtype), torch.randn(320)
    expected = x.double() @ exact.double().T + bias
    for name, run in CudaBackend().candidates(x.cuda(), on_gpu(weight), bias.cuda()).items():
        assert error(run(), expected) < TOLERANCES[dtype], name


def on_gpu(weight):
    tensors = (weight.packed, weight.scale, weight.zero_point)
    moved = (None if tensor is None else tensor.cuda() for tensor in tensors)
    return type(weight)(*moved, weight.shape, scheme=weight.scheme)


@pytest.mark.parametrize("tokens", [5, 77, 1374])
def test_integer_products_equal_the_definition_up_to_rounding(tokens):
    exact, weight = weight_of(320, 512, Scheme(4, 128))
    x, backend = torch.randn(tokens, 512), BACKENDS["cuda-int8"]
    found = backend.linear(x.cuda(), backend.prepare(on_gpu(weight), tokens), None)
    assert error(found, x @ exact.T) < 0.02


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_keys_of_their_own_are_that_of_the_definition(dtype, limit, has_bias):
    q, value = torch.randn(2, 1, 4, 300, 64).to(dtype).unbind()
    k, v = torch.randn(2, 1, 4, 130, 64).to(dtype).unbind()
    bias = torch.rand(1, 130) if has_bias else None
    score = 3 * torch.randn(1, 4, 300)
    score[:, :, ::3] = -torch.inf
    expected = attend_with_own(q.float(), k.float(), v.float(), bias, Own(score, value.float()))
    given = [part.cuda() for part in (q, k, v)]
    found = pick("cuda").attend(*given, None if bias is None else bias.cuda(), own=(score.cuda(), value.cuda()))
    assert error(found, expected) < limit


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "nano-4bit"
    quantize_to("nano", path)
    return path


@pytest.mark.parametrize(
    ("compute", "limit"), [("float32", 1e-3), ("bfloat16", 0.03), ("float16", 0.01), ("int8", 0.1)]
)
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("attention", ["exact", "nano", "merged"])
@torch.inference_mode()
def test_a_model_predicts_what_it_predicts_on_the_cpu(packed, compute, limit, is_packed, attention):
    name, images = str(packed) if is_packed else "nano", torch.rand(1, 8, 3, 112, 112)
    expected = qvggt.load(name, global_attention=attention)(images)
    found = qvggt.load(name, device="cuda", compute=compute, global_attention=attention)(images.cuda())
    for key in ("pose_enc", "depth", "world_points"):
        assert error(found[key], expected[key]) < limit, key
