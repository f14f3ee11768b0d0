import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from golden.make_gptq_golden import BLOCK as GOLDEN_BLOCK
from golden.make_gptq_golden import GPTQ_GOLDEN, hessian_of, published_codes
from qvggt.quant.affine import Grid, QuantizedTensor, dequantize, fit_grid, quantize
from qvggt.quant.gptq import BLOCK, DAMPING, gptq, hessian_error
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

SCHEMES = [
    Scheme(bits, group, symmetric, rule)
    for bits, group, symmetric, rule in itertools.product(range(2, 9), (-1, 32), (True, False), ("absmax", "mse"))
]

schemes = st.builds(
    Scheme, st.integers(2, 8), st.sampled_from((-1, 1, 8, 32, 128)), st.booleans(), st.sampled_from(("absmax", "mse"))
)
dampings, blocks = st.sampled_from((0.01, 0.1)), st.sampled_from((1, 7, 128))


def layer(rows=24, width=96, seed=0, tokens=400):
    """Return a weight [rows, width], and the Hessian of correlated inputs of which some channels are loud."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator) / width**0.5
    loudness = torch.rand(width, generator=generator) + 0.2
    loudness[torch.randperm(width, generator=generator)[: width // 16]] *= 8
    inputs = (torch.randn(tokens, width, generator=generator) @ mixing + 0.3) * loudness
    return torch.randn(rows, width, generator=generator) * 0.05, inputs.T @ inputs


def rounded_by(weight, hessian, scheme, damping=DAMPING, block=BLOCK):
    """Round a weight to the grid fitted to it."""
    return gptq(weight, hessian, scheme, fit_grid(weight, scheme), damping, block)


def error_of(weight, hessian, scheme):
    return hessian_error(weight, dequantize(rounded_by(weight, hessian, scheme)), hessian)


def by_input(hessian):
    """Return the columns by decreasing input, the order that ``gptq`` uses."""
    return hessian.diagonal().argsort(descending=True, stable=True)


def column_by_column(weight, hessian, grid, scheme, order, damping=DAMPING):
    """Round as the paper writes the method down, in any order of columns, and return the codes [out, in].

    After each column the inverse Hessian of the remaining ones is computed by one step of Gaussian elimination.
    """
    weight, hessian = weight.double().numpy().copy(), hessian.double().numpy()
    inverse = np.linalg.inv(hessian + damping * hessian.diagonal().mean() * np.eye(len(hessian)))
    repeats = weight.shape[1] // grid.scale.shape[1]
    scale = grid.scale.float().numpy().repeat(repeats, 1)
    offset = np.zeros_like(scale) if grid.zero_point is None else grid.zero_point.float().numpy().repeat(repeats, 1)
    codes = np.zeros(weight.shape, np.int8)
    for i in order.tolist():
        codes[:, i] = np.clip(np.rint(weight[:, i] / scale[:, i] + offset[:, i]), *scheme.code_range)
        error = weight[:, i] - (codes[:, i] - offset[:, i]) * scale[:, i]
        weight -= np.outer(error, inverse[i] / inverse[i, i])
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
        inverse[i, i] = 1  # not used again; its row and column are zero
    return QuantizedTensor(torch.from_numpy(codes), grid, scheme)


def assert_equal_up_to_ties(found, codes, weight, hessian, order, damping=DAMPING):
    """Compare codes; a weight halfway between two levels may be rounded either way, which changes the rest of its row.

    At the first difference of a row the weight with all earlier errors applied is recomputed: with H = M Mᵀ, M upper
    triangular, it is W + (W - Q) · (M / diag M - 1).
    """
    differs = found.codes != codes
    damped = hessian.double() + damping * hessian.double().diagonal().mean() * torch.eye(len(hessian))
    upper = torch.linalg.cholesky(damped[order][:, order].flip(0, 1)).flip(0, 1)
    change = (weight.double() - dequantize(found).double())[:, order]
    left = weight.double()[:, order] + change @ (upper / upper.diagonal()).triu(1)
    repeats = weight.shape[1] // found.grid.scale.shape[1]
    asked = left / found.grid.scale.double().repeat_interleave(repeats, 1)[:, order]
    for row in differs.any(1).nonzero()[:, 0].tolist():
        first = int(differs[row, order].nonzero()[0, 0])
        assert abs(float(asked[row, first]) % 1 - 0.5) < 1e-3
    assert differs.any(1).sum() <= 1
    theirs = dequantize(QuantizedTensor(codes, found.grid, found.scheme))
    ours = hessian_error(weight, dequantize(found), hessian)
    assert ours == pytest.approx(hessian_error(weight, theirs, hessian), rel=0.1)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_gptq__changes_the_output_less_than_rounding_to_nearest(scheme):
    weight, hessian = layer()
    nearest = hessian_error(weight, dequantize(quantize(weight, scheme)), hessian)
    assert error_of(weight, hessian, scheme) < nearest


@given(schemes, dampings, blocks, st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_gptq__uncorrelated_inputs_are_rounded_to_nearest(scheme, damping, block, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 64, generator=generator)
    hessian = torch.diag(torch.rand(64, generator=generator) + 1e-3)
    found, nearest = rounded_by(weight, hessian, scheme, damping, block), quantize(weight, scheme)
    assert torch.equal(found.codes, nearest.codes)
    assert found.scheme == nearest.scheme


@given(schemes, dampings, blocks, st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_gptq__weights_on_the_grid_stay_unchanged(scheme, damping, block, seed):
    weight, hessian = layer(4, 64, seed)
    once = quantize(weight, scheme)
    again = gptq(dequantize(once), hessian, scheme, once.grid, damping, block)
    assert torch.equal(again.codes, once.codes)


@pytest.mark.parametrize("symmetric", [True, False])
def test_gptq__error_falls_as_bits_rise(symmetric):
    weight, hessian = layer(32, 128)
    errors = [error_of(weight, hessian, Scheme(bits, 32, symmetric)) for bits in range(2, 9)]
    assert all(fewer > 1.5 * more for fewer, more in itertools.pairwise(errors))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq__act_order_beats_the_published_order_in_the_mean(bits):
    scheme = Scheme(bits, 32)
    ours = published = 0.0
    for weight, hessian in (layer(seed=seed) for seed in range(8)):
        grid, order = fit_grid(weight, scheme), torch.arange(weight.shape[1])
        ours += error_of(weight, hessian, scheme)
        published += hessian_error(weight, dequantize(column_by_column(weight, hessian, grid, scheme, order)), hessian)
    assert ours < published


@pytest.mark.parametrize("factor", [1e-12, 1 / 3, 1e9])
def test_gptq__the_scale_of_the_hessian_does_not_matter(factor):
    weight, hessian = layer()
    hessian[5], hessian[:, 5] = 0, 0
    scheme = Scheme(4, 32, False)
    found, scaled = (rounded_by(weight, hessian.double() * by, scheme) for by in (1, factor))
    assert torch.equal(found.codes, scaled.codes)


def test_gptq__rows_are_independent_and_the_result_repeats():
    weight, hessian = layer()
    whole = rounded_by(weight, hessian, Scheme(3, 32))
    assert torch.equal(whole.codes, rounded_by(weight, hessian, Scheme(3, 32)).codes)
    assert torch.equal(whole.codes[4:9], rounded_by(weight[4:9], hessian, Scheme(3, 32)).codes)


@pytest.mark.parametrize("group", [-1, 8, 32, 48])
def test_gptq__block_size_affects_speed_only(group):
    weight, hessian = layer()
    one, *others = (rounded_by(weight, hessian, Scheme(3, group), block=block) for block in (128, 96, 20, 1))
    assert all(torch.equal(one.codes, other.codes) for other in others)


@given(schemes, dampings, blocks, st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_gptq__equals_the_method_as_written_in_the_paper(scheme, damping, block, seed):
    weight, hessian = layer(6, 80, seed)
    found = rounded_by(weight, hessian, scheme, damping, block)
    order = by_input(hessian)
    slow = column_by_column(weight, hessian, found.grid, found.scheme, order, damping)
    assert_equal_up_to_ties(found, slow.codes, weight, hessian, order, damping)


def test_gptq__dead_columns_become_zero_and_do_not_affect_the_rest():
    weight, hessian = layer(8, 64)
    dead = torch.tensor([3, 40])
    hessian[dead], hessian[:, dead] = 0, 0
    scheme = Scheme(4, 32, False)
    grid, loud = fit_grid(weight, scheme), weight.clone()
    loud[:, dead] = 1e4
    found = gptq(loud, hessian, scheme, grid)
    assert (dequantize(found)[:, dead] == 0).all()
    assert torch.equal(found.codes, gptq(weight, hessian, scheme, grid).codes)
    assert hessian_error(loud, dequantize(found), hessian) < 0.01


@pytest.mark.parametrize("damping", [0.0, 1e-30, 0.01])
def test_gptq__fewer_inputs_than_columns_are_enough(damping, caplog):
    inputs = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    weight, hessian = torch.randn(8, 64, generator=torch.Generator().manual_seed(1)), inputs.T @ inputs
    with caplog.at_level("INFO", "qvggt.quant.gptq"):
        found = rounded_by(weight, hessian, Scheme(4, 32), damping)
    assert ("damped by" in caplog.text) == (damping < 0.01)
    nearest = hessian_error(weight, dequantize(quantize(weight, Scheme(4, 32))), hessian)
    assert hessian_error(weight, dequantize(found), hessian) < nearest / 2


def test_gptq__refuses_a_hessian_that_no_damping_mends():
    weight, hessian = layer(4, 16)
    hessian[0, 1] = hessian[1, 0] = 10 * hessian.diagonal().sum()
    with pytest.raises(QvggtError, match="not positive definite"):
        rounded_by(weight, hessian, Scheme())
    with pytest.raises(QvggtError, match="negative"):
        rounded_by(weight, -torch.eye(16), Scheme())
    with pytest.raises(QvggtError, match="Hessian is zero"):
        rounded_by(weight, torch.zeros(16, 16), Scheme())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gptq__refuses_nan_and_infinity_in_weight_and_hessian(value):
    weight, hessian = layer(4, 16)
    broken_weight, broken_hessian = weight.clone(), hessian.clone()
    broken_weight[2, 3], broken_hessian[5, 6] = value, value
    hessian[3], hessian[:, 3] = 0, 0  # not even where the column is dead
    grid = fit_grid(weight, Scheme())
    with pytest.raises(QvggtError, match="1 of 64 weights"):
        gptq(broken_weight, hessian, Scheme(), grid)
    with pytest.raises(QvggtError, match="Hessian contains NaN"):
        gptq(weight, broken_hessian, Scheme(), grid)


def test_gptq__refuses_shapes_that_do_not_match():
    weight, hessian = layer(4, 16)
    with pytest.raises(ValueError, match=r"Hessian \(16, 16\), got \(8, 8\)"):
        rounded_by(weight, hessian[:8, :8], Scheme())
    with pytest.raises(ValueError, match=r"scales \(4, 2\), got \(4, 1\)"):
        gptq(weight, hessian, Scheme(4, 8), Grid(torch.ones(4, 1)))
    with pytest.raises(ValueError, match="expected a weight"):
        gptq(weight[0], hessian, Scheme(), Grid(torch.ones(4, 1)))
    with pytest.raises(ValueError, match="same shape"):
        hessian_error(weight, weight[:2], hessian)


@pytest.mark.parametrize("damping", [-0.1, math.nan, math.inf])
def test_gptq__refuses_impossible_damping(damping):
    with pytest.raises(QvggtError, match="damping"):
        rounded_by(*layer(4, 16), Scheme(), damping)


@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gptq__flattens_kernels_and_keeps_the_grid(scale_dtype):
    weight, hessian = layer(8, 36)
    scheme = Scheme(4, 12, False)
    grid = fit_grid(weight, scheme, scale_dtype)
    found = gptq(weight.view(8, 4, 3, 3), hessian, scheme, grid)
    assert (found.codes.shape, found.codes.dtype) == ((8, 36), torch.int8)
    assert found.grid is grid
    assert torch.equal(found.codes, gptq(weight, hessian, scheme, grid).codes)


def test_gptq__leaves_its_arguments_unchanged():
    weight, hessian = layer()
    hessian[5], hessian[:, 5] = 0, 0
    copies = weight.clone(), hessian.clone()
    rounded_by(weight, hessian, Scheme(4, 32))
    assert torch.equal(weight, copies[0])
    assert torch.equal(hessian, copies[1])


def test_hessian_error__is_the_relative_error_of_the_outputs():
    generator = torch.Generator().manual_seed(0)
    weight, inputs = torch.randn(8, 32, generator=generator), torch.randn(50, 32, generator=generator)
    changed = weight + 0.1 * torch.randn(8, 32, generator=generator)
    change, output = inputs @ (changed - weight).T, inputs @ weight.T
    relative = float(change.square().sum() / output.square().sum())
    assert hessian_error(weight, changed, 3 * inputs.T @ inputs) == pytest.approx(relative, rel=1e-4)
    assert hessian_error(weight, weight, inputs.T @ inputs) == 0
    assert hessian_error(weight, changed, torch.zeros(32, 32)) == 0
    assert hessian_error(torch.zeros(8, 32), changed, inputs.T @ inputs) == math.inf


def recorded_cases():
    with safe_open(GPTQ_GOLDEN, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    cases = [(Scheme(**case["scheme"]), case["act_order"]) for case in json.loads(metadata["cases"])]
    return tensors, cases, int(metadata["block"])


def test_gptq__equals_the_recorded_codes_of_a_published_implementation():
    tensors, cases, block = recorded_cases()
    weight, hessian = tensors["weight"], hessian_of(tensors["inputs"])
    for number, (scheme, act_order) in enumerate(cases):
        grid, codes = Grid(tensors[f"{number}.scale"], tensors.get(f"{number}.zero_point")), tensors[f"{number}.codes"]
        order = by_input(hessian) if act_order else torch.arange(len(hessian))
        if act_order:
            found = gptq(weight, hessian, scheme, grid, block=block)
            assert_equal_up_to_ties(found, codes, weight, hessian, order)
        found = column_by_column(weight, hessian, grid, scheme.for_width(weight.shape[1]), order)
        assert_equal_up_to_ties(found, codes, weight, hessian, order)


@pytest.mark.parametrize("levels", ["ours", "theirs"])
@pytest.mark.parametrize(
    "scheme", [Scheme(bits, 32, symmetric) for bits in (2, 4, 8) for symmetric in (True, False)], ids=str
)
def test_gptq__equals_a_published_implementation(scheme, levels):
    pytest.importorskip("llmcompressor.modifiers.gptq.gptq_quantize", exc_type=ImportError)
    weight, hessian = layer(32, 192, seed=1)
    grid = fit_grid(weight, scheme, torch.float32) if levels == "ours" else published_grid(weight, scheme)
    found = gptq(weight, hessian, scheme, grid, block=GOLDEN_BLOCK)
    codes = published_codes(weight, hessian, scheme, grid, True)
    assert_equal_up_to_ties(found, codes, weight, hessian, by_input(hessian))


def published_grid(weight, scheme):
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.utils import calculate_qparams

    grouped = weight.unflatten(1, (-1, scheme.group_size))
    values = {"num_bits": scheme.bits, "symmetric": scheme.symmetric, "group_size": scheme.group_size}
    arguments = QuantizationArgs.model_validate(values)
    scale, zero_point = calculate_qparams(grouped.amin(-1), grouped.amax(-1), arguments)
    return Grid(scale.float(), None if scheme.symmetric else zero_point.to(torch.int8))
