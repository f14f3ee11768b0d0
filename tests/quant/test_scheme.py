import dataclasses
import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.quant import scheme as scheme_module
from qvggt.quant.scheme import FloatScheme, LayerShape, Scheme, scheme_from_json
from qvggt.types import QvggtError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bits", 1), ("bits", 9), ("bits", 4.0), ("bits", True), ("group_size", 0), ("group_size", -2),
        ("group_size", 64.0), ("symmetric", 1), ("scale_rule", "max"), ("activation_bits", 3), ("activation_bits", 9),
        ("activation_bits", 8.0), ("activation_bits", True), ("rotation", 1), ("rotation", None),
    ],
)  # fmt: skip
def test_impossible_fields_are_refused_by_one_sentence_with_the_value(field, value):
    with pytest.raises(QvggtError, match=rf"got {value!r}(?: \(--[a-z, -]+\))?$"):
        Scheme(**{field: value})


def test_unknown_float_type_is_refused():
    with pytest.raises(QvggtError, match="float8"):
        FloatScheme("float8")


@given(st.integers(1, 3000), st.integers(1, 300))
@settings(deadline=None, max_examples=200)
def test_fitted_groups_are_full_not_larger_and_stable(width, group_size):
    fitted = Scheme(group_size=group_size).for_width(width)
    assert fitted.for_width(width) == fitted
    if fitted.group_size == -1:
        assert fitted.groups(width) == 1
    else:
        assert fitted.group_size <= group_size <= 2 * fitted.group_size
        assert fitted.groups(width) * fitted.group_size == width


def test_a_group_that_divides_the_width_is_kept():
    assert Scheme(group_size=128).for_width(1024).group_size == 128


def test_a_group_as_wide_as_the_layer_is_one_scale_per_channel():
    assert [Scheme(group_size=128).for_width(width).group_size for width in (9, 128)] == [-1, -1]


def test_a_rotation_that_changes_nothing_is_left_out():
    scheme = Scheme(activation_bits=8, rotation=True)
    assert [scheme.for_width(width).rotation for width in (1024, 588, 100, 9)] == [True, True, True, False]
    assert all(scheme.for_width(width).activation_bits == 8 for width in (1024, 588, 100, 9))


@pytest.mark.parametrize(
    "scheme",
    [Scheme(3, 32, False, "mse"), Scheme(8, -1, activation_bits=8), Scheme(rotation=True), FloatScheme("bfloat16")],
)
def test_json_round_trip(scheme):
    assert scheme_from_json(scheme.to_json()) == scheme


def test_a_scheme_of_weights_alone_reads_as_before_there_were_others():
    before = {"bits": 3, "group_size": 32, "symmetric": False, "scale_rule": "mse"}
    assert Scheme(3, 32, False, "mse").to_json() == before
    assert scheme_from_json(before) == Scheme(3, 32, False, "mse")
    assert Scheme(activation_bits=8).to_json().keys() - before.keys() == {"activation_bits"}
    assert Scheme(rotation=True).to_json().keys() - before.keys() == {"rotation"}


def test_weights_only():
    schemes = [Scheme(), Scheme(activation_bits=8), Scheme(rotation=True)]
    assert [scheme.weights_only for scheme in schemes] == [True, False, False]


def test_json_with_an_unknown_field_is_refused():
    with pytest.raises(QvggtError, match="not a quantization scheme"):
        scheme_from_json({"bits": 4, "colour": "red"})


def test_examples_in_docstrings():
    assert doctest.testmod(scheme_module).failed == 0


def test_schemes_are_values():
    assert len({Scheme(), Scheme(4, 128), Scheme(4, 64)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Scheme().bits = 8


def test_layer_shape_flattens_kernels():
    shape = LayerShape("conv2d", (32, 16, 3, 3))
    assert (shape.rows, shape.width) == (32, 144)
