import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from golden.make_gptq_golden import BLOCK, GPTQ_GOLDEN, hessian_of, published_codes
from qvggt.quant.affine import Grid, QuantizedTensor, dequantize, fit_grid, quantize
from qvggt.quant.gptq import GptqOptions, gptq, hessian_error
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

PUBLISHED = GptqOptions(act_order=False)
ORDERS = [PUBLISHED, GptqOptions(act_order=False, static_groups=True), GptqOptions(act_order=True)]
SCHEMES = [
    Scheme(bits, group, symmetric, rule)
    for bits, group, symmetric, rule in itertools.product(range(2, 9), (-1, 32), (True, False), ("absmax", "mse"))
]

schemes = st.builds(
    Scheme, st.integers(2, 8), st.sampled_from((-1, 1, 8, 32, 128)), st.booleans(), st.sampled_from(("absmax", "mse"))
)
options = st.builds(
    GptqOptions, st.sampled_from((0.01, 0.1)), st.sampled_from((1, 7, 128)), st.booleans(), st.booleans()
)


def layer(rows=24, width=96, seed=0, tokens=400):
    """Return a weight [rows, width], and the Hessian of correlated inputs of which some channels are loud."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator) / width**0.5
    loudness = torch.rand(width, generator=generator) + 0.2
    loudness[torch.randperm(width, generator=generator)[: width // 16]] *= 8
    inputs = (torch.randn(tokens, width, generator=generator) @ mixing + 0.3) * loudness
    return torch.randn(rows, width, generator=generator) * 0.05, inputs.T @ inputs


def error_of(weight, hessian, scheme, chosen):
    return hessian_error(weight, dequantize(gptq(weight, hessian, scheme, chosen)), hessian)


def column_by_column(weight, hessian, quantized, options):
    """Round as the method is written down before it is made fast, and return the codes [out, in].

    After each column the inverse Hessian of those that are left is computed by one step of Gaussian elimination.
    """
    weight, hessian = weight.double().numpy().copy(), hessian.double().numpy()
    inverse = np.linalg.inv(hessian + options.damping * hessian.diagonal().mean() * np.eye(len(hessian)))
    repeats = weight.shape[1] // quantized.grid.scale.shape[1]
    scale = quantized.grid.scale.float().numpy().repeat(repeats, 1)
    zero_point = quantized.grid.zero_point
    offset = np.zeros_like(scale) if zero_point is None else zero_point.float().numpy().repeat(repeats, 1)
    order = np.argsort(-hessian.diagonal(), kind="stable") if options.act_order else range(len(hessian))
    codes = np.zeros(weight.shape, np.int8)
    for i in order:
        codes[:, i] = np.clip(np.rint(weight[:, i] / scale[:, i] + offset[:, i]), *quantized.scheme.code_range)
        error = weight[:, i] - (codes[:, i] - offset[:, i]) * scale[:, i]
        weight -= np.outer(error, inverse[i] / inverse[i, i])
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
        inverse[i, i] = 1  # used no more, and its row and column are zero
    return torch.from_numpy(codes)


def assert_equal_up_to_ties(rounded, codes, weight, hessian, options):
    """A weight in the middle between two levels may fall either way, and takes what is left of its row with it.

    Where codes first differ, the weight as all earlier errors left it is computed anew: with H = M Mᵀ, M upper
    triangular, it is W + (W - Q) · (M / diag M - 1).
    """
    differs = rounded.codes != codes
    order = (
        hessian.diagonal().argsort(descending=True, stable=True) if options.act_order else torch.arange(len(hessian))
    )
    damped = hessian.double() + options.damping * hessian.double().diagonal().mean() * torch.eye(len(hessian))
    upper = torch.linalg.cholesky(damped[order][:, order].flip(0, 1)).flip(0, 1)
    change = (weight.double() - dequantize(rounded).double())[:, order]
    left = weight.double()[:, order] + change @ (upper / upper.diagonal()).triu(1)
    repeats = weight.shape[1] // rounded.grid.scale.shape[1]
    asked = left / rounded.grid.scale.double().repeat_interleave(repeats, 1)[:, order]
    for row in differs.any(1).nonzero()[:, 0].tolist():
        first = int(differs[row, order].nonzero()[0, 0])
        assert abs(float(asked[row, first]) % 1 - 0.5) < 1e-3
    assert differs.any(1).sum() <= 1
    theirs = dequantize(QuantizedTensor(codes, rounded.grid, rounded.scheme))
    ours = hessian_error(weight, dequantize(rounded), hessian)
    assert ours == pytest.approx(hessian_error(weight, theirs, hessian), rel=0.1)


@pytest.mark.parametrize("chosen", ORDERS, ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_the_output_changes_less_than_by_rounding_to_nearest(scheme, chosen):
    weight, hessian = layer()
    nearest = hessian_error(weight, dequantize(quantize(weight, scheme)), hessian)
    assert error_of(weight, hessian, scheme, chosen) < nearest


@given(schemes, options, st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_with_inputs_that_are_not_correlated_it_is_rounding_to_nearest(scheme, chosen, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 64, generator=generator)
    hessian = torch.diag(torch.rand(64, generator=generator) + 1e-3)
    rounded, nearest = gptq(weight, hessian, scheme, chosen), quantize(weight, scheme)
    assert torch.equal(rounded.codes, nearest.codes)
    assert torch.equal(rounded.grid.scale, nearest.grid.scale)
    assert rounded.scheme == nearest.scheme


@given(schemes, options, st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_weights_on_the_grid_stay_as_they_are(scheme, chosen, seed):
    weight, hessian = layer(4, 64, seed)
    once = quantize(weight, scheme)
    again = gptq(dequantize(once), hessian, scheme, chosen, once.grid)
    assert torch.equal(again.codes, once.codes)


@pytest.mark.parametrize("chosen", ORDERS, ids=str)
@pytest.mark.parametrize("symmetric", [True, False])
def test_error_falls_as_bits_rise(symmetric, chosen):
    weight, hessian = layer(32, 128)
    errors = [error_of(weight, hessian, Scheme(bits, 32, symmetric), chosen) for bits in range(2, 9)]
    assert all(fewer > 1.5 * more for fewer, more in itertools.pairwise(errors))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_loud_channels_first_helps_in_the_mean(bits):
    scheme = Scheme(bits, 32)
    layers = [layer(seed=seed) for seed in range(8)]
    first, in_place = (
        sum(error_of(weight, hessian, scheme, chosen) for weight, hessian in layers)
        for chosen in (GptqOptions(act_order=True), GptqOptions(act_order=False, static_groups=True))
    )
    assert first < in_place


@pytest.mark.parametrize("factor", [1e-12, 1 / 3, 1e9])
@pytest.mark.parametrize("chosen", ORDERS, ids=str)
def test_the_scale_of_the_hessian_does_not_matter(chosen, factor):
    weight, hessian = layer()
    hessian[5], hessian[:, 5] = 0, 0
    scheme = Scheme(4, 32, False)
    rounded, scaled = (
        gptq(weight, hessian.double(), scheme, chosen),
        gptq(weight, hessian.double() * factor, scheme, chosen),
    )
    assert torch.equal(rounded.codes, scaled.codes)
    assert torch.equal(rounded.grid.scale, scaled.grid.scale)


@pytest.mark.parametrize("chosen", ORDERS, ids=str)
def test_each_row_is_rounded_by_itself_and_again_the_same_way(chosen):
    weight, hessian = layer()
    whole = gptq(weight, hessian, Scheme(3, 32), chosen)
    assert torch.equal(whole.codes, gptq(weight, hessian, Scheme(3, 32), chosen).codes)
    assert torch.equal(whole.codes[4:9], gptq(weight[4:9], hessian, Scheme(3, 32), chosen).codes)


@pytest.mark.parametrize("group", [-1, 8, 32, 48])
@pytest.mark.parametrize("chosen", ORDERS, ids=str)
def test_blocks_are_a_matter_of_speed(chosen, group):
    weight, hessian = layer()
    one, *others = (
        gptq(weight, hessian, Scheme(3, group), GptqOptions(0.01, block, chosen.act_order, chosen.static_groups))
        for block in (128, 96, 20, 1)
    )
    assert all(torch.equal(one.codes, other.codes) for other in others)
    assert all(torch.equal(one.grid.scale, other.grid.scale) for other in others)


@given(schemes, options, st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_it_is_the_method_as_it_is_written_down(scheme, chosen, seed):
    weight, hessian = layer(6, 80, seed)
    rounded = gptq(weight, hessian, scheme, chosen)
    slow = column_by_column(weight, hessian, rounded, chosen)
    assert_equal_up_to_ties(rounded, slow, weight, hessian, chosen)


def test_levels_are_fitted_to_weights_that_all_earlier_errors_have_reached():
    weight, hessian = layer(6, 64)
    scheme = Scheme(3, 16)
    rounded = gptq(weight, hessian, scheme, PUBLISHED)
    left = weight.double().clone()
    inverse = torch.linalg.inv(hessian.double() + 0.01 * hessian.double().diagonal().mean() * torch.eye(64))
    decoded = dequantize(rounded)
    for start in range(0, 64, 16):
        assert torch.equal(
            rounded.grid.scale[:, start // 16, None], fit_grid(left[:, start : start + 16], Scheme(3)).scale
        )
        for i in range(start, start + 16):
            left -= torch.outer(left[:, i] - decoded[:, i], inverse[i] / inverse[i, i])
            inverse -= torch.outer(inverse[:, i], inverse[i]) / inverse[i, i]
            inverse[i, i] = 1


def test_dead_columns_become_zero_and_take_no_part_in_the_levels():
    weight, hessian = layer(8, 64)
    dead = torch.tensor([3, 40])
    hessian[dead], hessian[:, dead] = 0, 0
    loud = weight.clone()
    loud[:, dead] = 1e4
    for chosen in ORDERS:
        rounded = gptq(loud, hessian, Scheme(4, 32, False), chosen)
        assert (dequantize(rounded)[:, dead] == 0).all()
        weight[:, dead] = 0
        assert torch.equal(rounded.grid.scale, gptq(weight, hessian, Scheme(4, 32, False), chosen).grid.scale)
        assert hessian_error(loud, dequantize(rounded), hessian) < 0.01


@pytest.mark.parametrize("damping", [0.0, 1e-30, 0.01])
def test_fewer_inputs_than_columns_are_enough(damping, caplog):
    inputs = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    weight, hessian = torch.randn(8, 64, generator=torch.Generator().manual_seed(1)), inputs.T @ inputs
    with caplog.at_level("INFO", "qvggt.quant.gptq"):
        rounded = gptq(weight, hessian, Scheme(4, 32), GptqOptions(damping))
    assert ("damped by" in caplog.text) == (damping < 0.01)
    nearest = hessian_error(weight, dequantize(quantize(weight, Scheme(4, 32))), hessian)
    assert hessian_error(weight, dequantize(rounded), hessian) < nearest / 2


def test_what_no_damping_mends_is_refused():
    weight, hessian = layer(4, 16)
    hessian[0, 1] = hessian[1, 0] = 10 * hessian.diagonal().sum()
    with pytest.raises(QvggtError, match="not positive definite even with a damping of 1 of its mean diagonal"):
        gptq(weight, hessian, Scheme())
    with pytest.raises(QvggtError, match="diagonal is negative"):
        gptq(weight, -torch.eye(16), Scheme())
    with pytest.raises(QvggtError, match="the Hessian is zero"):
        gptq(weight, torch.zeros(16, 16), Scheme())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_refused_in_weight_and_hessian(value):
    weight, hessian = layer(4, 16)
    broken_weight, broken_hessian = weight.clone(), hessian.clone()
    broken_weight[2, 3], broken_hessian[5, 6] = value, value
    hessian[3], hessian[:, 3] = 0, 0  # not even where the column is dead
    for grid in (None, fit_grid(weight, Scheme())):
        with pytest.raises(QvggtError, match="1 of 64 weights are NaN or infinite"):
            gptq(broken_weight, hessian, Scheme(), grid=grid)
    with pytest.raises(QvggtError, match="the Hessian holds NaN or infinity"):
        gptq(weight, broken_hessian, Scheme())


def test_shapes_that_do_not_fit_are_refused():
    weight, hessian = layer(4, 16)
    with pytest.raises(ValueError, match=r"Hessian \(16, 16\), got \(8, 8\)"):
        gptq(weight, hessian[:8, :8], Scheme())
    with pytest.raises(ValueError, match=r"scales \(4, 2\), got \(4, 1\)"):
        gptq(weight, hessian, Scheme(4, 8), grid=Grid(torch.ones(4, 1)))
    with pytest.raises(ValueError, match="expected a weight"):
        gptq(weight[0], hessian, Scheme())
    with pytest.raises(ValueError, match="one shape"):
        hessian_error(weight, weight[:2], hessian)


@pytest.mark.parametrize("values", [{"damping": -0.1}, {"damping": math.nan}, {"block": 0}, {"block": 1.5}])
def test_impossible_options_are_refused(values):
    with pytest.raises(QvggtError, match=r"must be .*, got "):
        GptqOptions(**values)


@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_kernels_are_flattened_and_scales_stored_as_asked(scale_dtype):
    weight, hessian = layer(8, 36)
    rounded = gptq(weight.view(8, 4, 3, 3), hessian, Scheme(4, 12, False), scale_dtype=scale_dtype)
    assert isinstance(rounded, QuantizedTensor)
    assert (rounded.codes.shape, rounded.codes.dtype) == ((8, 36), torch.int8)
    assert (rounded.grid.scale.shape, rounded.grid.scale.dtype) == ((8, 3), scale_dtype)
    assert rounded.grid.zero_point is not None
    assert rounded.grid.zero_point.dtype == torch.int8
    assert torch.equal(rounded.codes, gptq(weight, hessian, Scheme(4, 12, False), scale_dtype=scale_dtype).codes)


def test_the_arguments_are_left_as_they_were():
    weight, hessian = layer()
    hessian[5], hessian[:, 5] = 0, 0
    copies = weight.clone(), hessian.clone()
    for chosen in ORDERS:
        gptq(weight, hessian, Scheme(4, 32), chosen)
    assert torch.equal(weight, copies[0])
    assert torch.equal(hessian, copies[1])


def test_the_relative_error_is_that_of_the_outputs():
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


def test_a_published_implementation_rounded_a_layer_to_the_same_codes():
    tensors, cases, block = recorded_cases()
    weight, hessian = tensors["weight"], hessian_of(tensors["inputs"])
    for number, (scheme, act_order) in enumerate(cases):
        grid = Grid(tensors[f"{number}.scale"], tensors.get(f"{number}.zero_point"))
        chosen = GptqOptions(0.01, block, act_order)
        rounded = gptq(weight, hessian, scheme, chosen, grid)
        assert_equal_up_to_ties(rounded, tensors[f"{number}.codes"], weight, hessian, chosen)


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("levels", ["ours", "theirs"])
@pytest.mark.parametrize(
    "scheme", [Scheme(bits, 32, symmetric) for bits in (2, 4, 8) for symmetric in (True, False)], ids=str
)
def test_a_published_implementation_rounds_to_the_same_codes(scheme, levels, act_order):
    pytest.importorskip("llmcompressor.modifiers.gptq.gptq_quantize", exc_type=ImportError)
    weight, hessian = layer(32, 192, seed=1)
    grid = fit_grid(weight, scheme, torch.float32) if levels == "ours" else published_grid(weight, scheme)
    chosen = GptqOptions(0.01, BLOCK, act_order)
    rounded = gptq(weight, hessian, scheme, chosen, grid)
    codes = published_codes(weight, hessian, scheme, grid, act_order)
    assert_equal_up_to_ties(rounded, codes, weight, hessian, chosen)


def published_grid(weight, scheme):
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.utils import calculate_qparams

    grouped = weight.unflatten(1, (-1, scheme.group_size))
    values = {"num_bits": scheme.bits, "symmetric": scheme.symmetric, "group_size": scheme.group_size}
    arguments = QuantizationArgs.model_validate(values)
    scale, zero_point = calculate_qparams(grouped.amin(-1), grouped.amax(-1), arguments)
    return Grid(scale.float(), None if scheme.symmetric else zero_point.to(torch.int8))
