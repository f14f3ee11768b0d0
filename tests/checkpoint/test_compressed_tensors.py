"""The ecosystem's own library reads our checkpoints, and we read what it writes."""

import json

import pytest
import torch
from safetensors.torch import load_file

from quantizing import rtn, rtn_recipe
from qvggt.checkpoint.folder import open_checkpoint
from qvggt.checkpoint.write import write_checkpoint
from qvggt.nn.convert import model_layers
from qvggt.nn.linear import PackedLayer
from qvggt.options import QuantizeOptions
from qvggt.quant.affine import dequantize, fit_grid, quantize
from qvggt.quant.packing import PackedWeight, pack, unpack
from qvggt.quant.scheme import Scheme

pytest.importorskip("compressed_tensors")

from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme

SCHEMES = [Scheme(bits, group, symmetric) for bits in range(2, 9) for group in (-1, 32) for symmetric in (True, False)]


def library_scheme(scheme):
    strategy = {"strategy": "channel"} if scheme.group_size == -1 else {"group_size": scheme.group_size}
    weights = QuantizationArgs(num_bits=scheme.bits, symmetric=scheme.symmetric, **strategy)
    return QuantizationScheme(targets=["Linear"], weights=weights)


def compressor():
    return BaseCompressor.get_value_from_registry("pack-quantized")


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_library_decodes_our_weights_bit_for_bit(scheme, scale_dtype):
    quantized = quantize(torch.randn(40, 96) + 0.1, scheme, scale_dtype=scale_dtype)
    decoded = compressor().decompress(pack(quantized).tensors(), library_scheme(scheme))["weight"]
    assert torch.equal(decoded, dequantize(quantized).to(scale_dtype))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_we_decode_what_the_library_packs(scheme):
    weight = torch.randn(40, 96) + 0.1
    grid = fit_grid(weight, scheme, torch.float32)
    state = {"weight": weight, "weight_scale": grid.scale}
    if grid.zero_point is not None:
        state["weight_zero_point"] = grid.zero_point
    theirs = compressor().compress(state, library_scheme(scheme))
    packed = PackedWeight(
        theirs["weight_packed"], theirs["weight_scale"], theirs.get("weight_zero_point"),
        tuple(theirs["weight_shape"].tolist()), scheme,
    )  # fmt: skip
    assert torch.equal(dequantize(unpack(packed)), compressor().decompress(theirs, library_scheme(scheme))["weight"])
    assert torch.equal(packed.packed, pack(quantize(weight, scheme, grid)).packed)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_library_decodes_a_whole_checkpoint_by_its_config(tmp_path, config, source, symmetric):
    converters = pytest.importorskip("compressed_tensors.entrypoints.convert.converters")
    recipe = rtn_recipe(model_layers(config), QuantizeOptions(Scheme(4, 32, symmetric), layers=("aa", "conv2d")))
    folder = write_checkpoint(tmp_path / "x", config, recipe, rtn(source, config, recipe))
    QuantizationConfig.model_validate(json.loads((folder / "config.json").read_text())["quantization_config"])
    decode = converters.CompressedTensorsDequantizer(str(folder), dtype=torch.float16)
    decoded = decode.validate(load_file(folder / "model.safetensors"))
    packed = {n: m for n, m in open_checkpoint(folder).load().named_modules() if isinstance(m, PackedLayer)}
    assert packed.keys() == recipe.quantized.keys()
    assert not [name for name in decoded if "weight_" in name]
    for name, layer in packed.items():
        assert torch.equal(decoded[f"{name}.weight"], layer.expanded(torch.float16)), name
