"""Only memory that C expects reaches C."""

import pytest
import torch
import torch.nn.functional as F
from packed_weights import weight_of

from qvggt.backends import ConvGeometry
from qvggt.backends.cpu import CpuBackend
from qvggt.backends.cpu_native import CpuNativeBackend
from qvggt.backends.native.buffers import address, allocate
from qvggt.backends.native.convolution import convolve, convolve_floats, round_kernel
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.native.products import Codes, multiply, round_rows
from qvggt.quant.packing import PackedWeight
from qvggt.quant.scheme import Scheme

needs_library = pytest.mark.skipif(unavailable_reason() is not None, reason="no native library on this machine")
DEFAULTS = [*((torch.set_default_dtype, t) for t in (torch.float16, torch.bfloat16, torch.float64))]
DEFAULTS += [(torch.set_default_device, "meta")]


@pytest.fixture(params=DEFAULTS, ids=lambda default: str(default[1]))
def other_default(request):
    """Return a function that sets another default dtype or device."""
    dtype, (setter, value) = torch.get_default_dtype(), request.param
    yield lambda: setter(value)
    torch.set_default_dtype(dtype)
    torch.set_default_device(None)


def test_allocate__ignores_defaults(other_default):
    other_default()
    for tensor in (allocate(2, 3), allocate(0)):
        assert (tensor.dtype, tensor.device.type) == (torch.float32, "cpu")
    assert allocate(2, dtype=torch.int16).dtype == torch.int16


def test_address__of_what_is_expected():
    x = torch.zeros(2, 6)
    assert address(x, torch.float32, (2, 6)) == x.data_ptr()
    assert address(x[:, 2:], torch.float32, (2, 4), contiguous=False) == x.data_ptr() + 8


@pytest.mark.parametrize(
    ("tensor", "contiguous"),
    [
        (torch.zeros(2, 3, dtype=torch.float64), True),
        (torch.zeros(2, 3, device="meta"), True),
        (torch.zeros(2, 4), True),
        (torch.zeros(6), True),
        (torch.zeros(3, 2).T, True),
        (torch.zeros(2, 6)[:, ::2], False),
    ],
    ids=["dtype", "device", "shape", "dimensions", "order", "step"],
)
def test_address__refuses_anything_else(tensor, contiguous):
    with pytest.raises(ValueError, match=r"expected .*float32.*\[2, 3\].*CPU.*got"):
        address(tensor, torch.float32, (2, 3), contiguous)


@needs_library
def test_multiply__refuses_what_does_not_fit():
    _, weight = weight_of(8, 32, Scheme(4, 32))
    codes = round_rows(torch.randn(5, 32))
    damaged = [
        (Codes(codes.codes[:, :16], codes.scale), weight, None),
        (Codes(codes.codes, codes.scale[:4]), weight, None),
        (codes, PackedWeight(weight.packed[:7], weight.scale, None, weight.shape, weight.scheme), None),
        (codes, PackedWeight(weight.packed, weight.scale[:7], None, weight.shape, weight.scheme), None),
        (codes, PackedWeight(weight.packed.float(), weight.scale, None, weight.shape, weight.scheme), None),
        (codes, weight, torch.zeros(7)),
        (torch.randn(5, 32).double(), weight, None),
        (torch.randn(5, 33), weight, None),
    ]
    for x, given, bias in damaged:
        with pytest.raises(ValueError, match="expected"):
            multiply(x, given, bias)


@needs_library
def test_convolve__refuses_what_does_not_fit():
    geometry = ConvGeometry((16, 16, 3, 3))
    kernel = round_kernel(torch.randn(16, 144), geometry)
    for x in (torch.randn(1, 18, 9, 9), torch.randn(1, 16, 2, 9)):
        with pytest.raises(ValueError, match="cannot be convolved"):
            convolve(x, kernel, None, geometry)
        with pytest.raises(ValueError, match="cannot be convolved"):
            convolve_floats(x, torch.randn(16, 144), None, geometry)
    with pytest.raises(ValueError, match="expected"):
        round_kernel(torch.randn(16, 140), geometry)
    with pytest.raises(ValueError, match="expected"):
        convolve(torch.randn(1, 16, 9, 9), kernel, None, ConvGeometry((16, 16, 5, 5)))


@needs_library
def test_backends__of_no_rows():
    _, weight = weight_of(8, 32, Scheme(4, 32))
    for backend in (CpuBackend(), CpuNativeBackend()):
        assert backend.linear(torch.zeros(2, 0, 32), weight, None).shape == (2, 0, 8)


@needs_library
def test_backends__do_not_depend_on_defaults(other_default):
    generator = torch.Generator().manual_seed(0)
    weights = [weight_of(48, 64, Scheme(4, 32, symmetric))[1] for symmetric in (True, False)]
    kernels, geometry = weight_of(32, 16 * 9, Scheme(8, -1))[1], ConvGeometry((32, 16, 3, 3), padding=(1, 1))
    strided = ConvGeometry((32, 16, 3, 3), stride=(2, 2))
    x, maps = torch.randn(3, 70, 64, generator=generator), torch.randn(2, 16, 24, 24, generator=generator)
    q, k, v = torch.randn(3, 1, 2, 70, 32, generator=generator)

    def answers():
        for backend in (CpuBackend(), CpuNativeBackend()):
            yield from (backend.linear(x, weight, None) for weight in weights)
            yield from (backend.linear(x[:, :2], weight, None) for weight in weights)
            yield from (backend.convolve(maps, kernels, None, shape) for shape in (geometry, strided))
            yield backend.attend(q, k, v, None)

    usual = list(answers())
    other_default()
    assert all(map(torch.equal, usual, answers()))
    torch.testing.assert_close(usual[0], F.linear(x, CpuBackend().expand(weights[0], torch.float32)))
