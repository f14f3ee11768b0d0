"""GELU, layer norm and scaled residuals on bfloat16 in C, against float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qvggt.backends import BACKENDS, operators
from qvggt.backends.native import passes
from qvggt.model import VGGT
from qvggt.model.layers import LayerScale, Mlp
from qvggt.nn.half import CastNorm, HalfScale, use_half

HALF = torch.bfloat16
EPS = torch.finfo(HALF).eps
needs_units = pytest.mark.skipif(
    not passes.supports(torch.empty(1, 16, dtype=HALF), HALF), reason="no AVX-512 BF16, or no compiler"
)


def distance(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@needs_units
def test_gelu__every_number_is_rounded_as_if_exact():
    x = torch.arange(-(2**15), 2**15).to(torch.int16).view(HALF).reshape(-1, 16)  # every bfloat16 number
    found = x.clone()
    passes.gelu_(found)
    expected = F.gelu(x.double()).to(HALF)
    ordinary = (x.abs() < 5) & (x.abs() > 1e-30)  # less in size than 5: beyond, results on the left are below 1e-5
    apart = (found.view(torch.int16).int() - expected.view(torch.int16).int()).abs()
    assert int(apart[ordinary].max()) <= 1
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found[x >= 5], expected[x >= 5])
    assert float(found[x.isfinite() & (x <= -5)].abs().max()) < 1e-5


@needs_units
@pytest.mark.parametrize("shape", [(1, 16), (3, 5, 48), (1374, 1024), (2, 20000)])
def test_passes__equal_float64(shape):
    generator = torch.Generator().manual_seed(0)
    x, gain, bias = (torch.randn(*size, generator=generator) for size in (shape, shape[-1:], shape[-1:]))
    branch = torch.randn(*shape, generator=generator).to(HALF)
    normal = F.layer_norm(x.double(), shape[-1:], gain.double(), bias.double(), 1e-6)
    assert distance(operators.normalize_bfloat16(x, gain, bias, 1e-6), normal) < EPS / 2
    expected = x.double() + branch.double() * gain.double()
    for out in (torch.empty_like(x), x):  # in place at last
        operators.add_scaled_bfloat16(x, branch, gain, out)
        assert distance(out, expected) < 1e-6


@needs_units
def test_passes__what_is_not_finite_stays_in_its_row():
    x = torch.randn(3, 64)
    x[1, 5] = torch.inf
    found = passes.normalize(x, torch.ones(64), torch.zeros(64), 1e-6)
    assert found[[0, 2]].isfinite().all()
    assert not found[1].isfinite().all()


def test_supports__other_types_sizes_and_layouts_go_to_torch():
    assert not passes.supports(torch.empty(2, 16), HALF)
    assert not passes.supports(torch.empty(2, 24, dtype=HALF), HALF)
    assert not passes.supports(torch.empty(16, 32, dtype=HALF).T, HALF)


@needs_units
@pytest.mark.parametrize("name", ["gelu_bfloat16_", "add_scaled_bfloat16", "normalize_bfloat16"])
def test_operators__schemas_and_fakes(name):
    x, gain = torch.randn(3, 32), torch.randn(32)
    given = {
        "gelu_bfloat16_": (x.to(HALF),),
        "add_scaled_bfloat16": (x, x.to(HALF), gain, torch.empty_like(x)),
        "normalize_bfloat16": (x, gain, gain, 1e-6),
    }[name]
    torch.library.opcheck(getattr(operators, name), given, test_utils=("test_schema", "test_faketensor"))


def test_layers__compute_the_same_with_and_without_passes(micro, monkeypatch):
    half = copy.deepcopy(micro)
    use_half(half, BACKENDS["cpu-bfloat16"], keep_stored=False)
    kinds = [type(module) for module in half.modules()]
    assert CastNorm in kinds
    assert HalfScale in kinds
    images = torch.rand(1, 2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = half(images)
        monkeypatch.setattr(passes, "supports", lambda *_: False)
        expected = half(images)
    for name in ("pose_enc", "depth"):
        assert distance(found[name], expected[name]) < 5 * EPS


@pytest.mark.parametrize("of_tokens", [True, False])
def test_layers__gradients_go_the_usual_way(of_tokens):
    x, branch = torch.randn(2, 32, requires_grad=of_tokens), torch.randn(2, 32).to(HALF)
    scale, norm = HalfScale.like(LayerScale(32)), CastNorm.like(nn.LayerNorm(32), HALF)
    (scale(x, branch) + norm(x)).sum().backward()
    assert (x.grad is not None) == of_tokens
    assert torch.equal(scale.gamma.grad, branch.float().sum(0))
    assert norm.weight.grad is not None


def test_layers__float_models_keep_theirs(micro):
    assert isinstance(micro, VGGT)
    assert all("gelu_" not in vars(module) for module in micro.modules() if isinstance(module, Mlp))
