"""Compiled products for ARM: the same numbers, to the bit, as those for x86; a cross compiler and an emulator tell."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from qvggt.backends import ConvGeometry
from qvggt.backends.cpu_native import CpuNativeBackend
from qvggt.backends.native import jobs
from qvggt.backends.native.library import FLAGS, FOLDER, compiler, unavailable_reason
from qvggt.backends.native.processors import ARM, X86, processor
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme

PROGRAM = Path(__file__).parent / "products_of_every_kind.c"
CROSS, EMULATOR = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
KINDS = {"dot products": ("-march=armv8.2-a+dotprod",), "plain": ("-march=armv8-a",)}


def printed(call, tmp_path, *before):
    options = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC")]
    made = tmp_path / "program"
    subprocess.run([*call, *options, f"-I{FOLDER}", "-o", made, PROGRAM, "-lm"], check=True, timeout=120)
    return subprocess.run([*before, made], check=True, capture_output=True, timeout=120).stdout


@pytest.mark.native
@pytest.mark.skipif(processor() is not X86 or unavailable_reason() is not None, reason="not compiled for x86 here")
@pytest.mark.skipif(CROSS is None or EMULATOR is None, reason="no compiler for ARM, or no emulator")
@pytest.mark.parametrize("flags", KINDS.values(), ids=KINDS)
def test_products_have_the_same_bits_on_arm(flags, tmp_path):
    here = printed([*compiler(), *X86.flags], tmp_path)
    assert len(here) > 10**6
    assert printed([CROSS, *flags, "-static"], tmp_path, EMULATOR) == here


@pytest.mark.parametrize(
    ("machine", "pairs", "found"), [("x86_64", True, True), ("aarch64", False, True), ("riscv64", False, False)]
)
def test_processors_are_known_by_name(machine, pairs, found, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    if machine == "x86_64" and processor() is None:
        pytest.skip("no AVX2")
    kind = processor()
    assert (kind is not None) == found
    assert ("qvggt_attend" in (kind.functions if kind else ())) == pairs


def test_attention_and_convolutions_are_in_float_there(monkeypatch):
    monkeypatch.setattr(jobs, "processor", lambda: ARM)
    backend, generator = CpuNativeBackend(), torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 40, 16, generator=generator)
    assert torch.equal(backend.attend(q, k, v, None), F.scaled_dot_product_attention(q, k, v))
    x, quantized = torch.randn(1, 8, 9, 9), quantize(torch.randn(16, 72, generator=generator), Scheme(4, -1))
    geometry = ConvGeometry((16, 8, 3, 3))
    assert torch.equal(
        backend.convolve(x, pack(quantized), None, geometry), geometry.convolve(x, dequantize(quantized), None)
    )
