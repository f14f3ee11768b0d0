"""Compiled and exported models see the native kernels as operators, and compute the same."""

import pytest
import torch
from packed_weights import weight_of
from torch import nn

from qvggt.backends import ConvGeometry, operators
from qvggt.backends.cpu import CpuBackend
from qvggt.backends.cpu_int8 import CpuInt8Backend
from qvggt.backends.cpu_native import CpuNativeBackend
from qvggt.backends.native.attention import Attention
from qvggt.backends.native.jobs import is_compiled
from qvggt.backends.native.library import unavailable_reason
from qvggt.nn.conv import QuantConv2d
from qvggt.nn.linear import QuantLinear
from qvggt.quant.scheme import Scheme

COMPILED = unavailable_reason() is None and is_compiled(Attention)
pytestmark = pytest.mark.skipif(not COMPILED, reason="no native library on this machine")
BACKENDS = [CpuBackend(), CpuNativeBackend()]
GEOMETRY = ConvGeometry((24, 16, 3, 3), padding=(1, 1))


def arguments():
    _, weight = weight_of(48, 64, Scheme(4, 32, symmetric=False))
    packed, x, maps = operators.weight_arguments(weight), torch.randn(2, 70, 64), torch.randn(2, 16, 12, 9)
    matrix, bias, lists = torch.randn(24, 144), torch.randn(24), (GEOMETRY.shape, GEOMETRY.stride, GEOMETRY.padding)
    yield "dequantize", (64, *packed, torch.float32)
    yield "dequantize", (64, *packed, torch.bfloat16)
    yield "dequantize", (64, *packed, torch.float16)
    yield "linear", (x, *packed, torch.randn(48))
    yield "linear_int8", (x.half(), *packed, None)
    yield "attention_int16", (*torch.randn(3, 2, 3, 70, 16), None)
    yield "attention_int16", (*torch.randn(3, 2, 3, 70, 16).half(), torch.rand(70))
    yield "conv2d_int16", (maps, matrix, bias, *lists)
    yield "conv2d_int16", (maps, matrix, None, lists[0], [2, 1], [0, 2])
    yield "conv2d_winograd", (maps.contiguous(memory_format=torch.channels_last), matrix, bias, *lists)


@pytest.mark.parametrize(
    ("name", "given"), list(arguments()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_operators__fakes_have_the_layout_of_results(name, given):
    operator = getattr(operators, name)
    with torch.inference_mode():
        found = operator(*given)
        fake = operator(*(value.to("meta") if isinstance(value, torch.Tensor) else value for value in given))
    assert (fake.shape, fake.dtype, fake.stride()) == (found.shape, found.dtype, found.stride())
    torch.library.opcheck(operator, given, test_utils=("test_schema", "test_faketensor"))


def test_operators__without_the_library_float_ones_compute_the_same(monkeypatch):
    cases = [(name, given) for name, given in arguments() if name in ("dequantize", "linear", "conv2d_winograd")]
    usual = [getattr(operators, name)(*given) for name, given in cases]
    monkeypatch.setenv("QVGGT_NATIVE", "0")
    for (name, given), expected in zip(cases, usual, strict=True):
        found = getattr(operators, name)(*given)
        assert found.stride() == expected.stride()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


class Layers(nn.Module):
    """A convolution, two linear layers (one of few tokens) and attention, quantized."""

    def __init__(self, backend):
        super().__init__()
        self.backend = backend
        self.conv = QuantConv2d.like(nn.Conv2d(16, 32, 3, padding=1), Scheme(8, -1), torch.float16, backend)
        self.conv.assign_weight(weight_of(32, 144, Scheme(8, -1))[1])
        self.linear = QuantLinear.like(nn.Linear(32, 48), Scheme(4, 16, False), torch.float16, backend)
        self.linear.assign_weight(weight_of(48, 32, Scheme(4, 16, False))[1])
        self.requires_grad_(False)

    def forward(self, x):
        tokens = self.linear(self.conv(x).flatten(2).transpose(1, 2))  # [B, H*W, 48]
        q, k, v = tokens.unflatten(2, (3, 1, 16)).permute(2, 0, 3, 1, 4)
        attended = self.backend.attend(q, k, v, None).flatten(2)
        return tokens, attended, self.linear(attended[:, :2, :32].relu())


def kernels(graph):
    return {node.target.name() for node in graph.nodes if str(node.target).startswith("qvggt.")}


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("compiler", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile__gives_the_same_in_one_graph(backend, compiler):
    torch._dynamo.reset()
    layers, x = Layers(backend), torch.randn(2, 16, 24, 26)
    with torch.no_grad():
        expected = layers(x)
        found = torch.compile(layers, backend=compiler, fullgraph=True)(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("backend", "expected"),
    list(
        zip(
            BACKENDS,
            (
                {"qvggt::dequantize", "qvggt::linear", "qvggt::conv2d_winograd"},
                {
                    "qvggt::dequantize",
                    "qvggt::linear",
                    "qvggt::linear_int8",
                    "qvggt::attention_int16",
                    "qvggt::conv2d_int16",
                },
            ),
            strict=True,
        )
    ),
    ids=lambda value: getattr(value, "name", ""),
)
def test_export__holds_the_operators_and_gives_the_same(backend, expected):
    layers, x = Layers(backend), torch.randn(2, 16, 24, 26)
    with torch.no_grad():
        program = torch.export.export(layers, (x,))
        assert kernels(program.graph) == expected
        for found, usual in zip(program.module()(x), layers(x), strict=True):
            assert torch.equal(found, usual)


def test_compile__gives_the_same_with_other_int8_kernels():
    backend = CpuInt8Backend()
    if backend.unsupported_reason(torch.device("cpu")):
        pytest.skip("no oneDNN kernels on this machine")
    torch._dynamo.reset()
    layer, x = Layers(backend).linear, torch.randn(2, 70, 32)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(x), layer(x))


@pytest.mark.slow
def test_compile__of_a_quantized_model(tmp_path):
    import qvggt

    qvggt.save(qvggt.quantize("nano"), tmp_path / "nano-4bit")
    for compute in ("float", "int8"):
        model, x = qvggt.load(tmp_path / "nano-4bit", compute=compute), torch.rand(1, 2, 3, 56, 84)
        torch._dynamo.reset()
        with torch.inference_mode():
            found, expected = torch.compile(model, backend="eager", fullgraph=True)(x), model(x)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=2e-3)
