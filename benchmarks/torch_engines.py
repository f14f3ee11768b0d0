"""Engines within torch: as it is, compiled, with other libraries' integers, and ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from engine import Engine, Run, Source
from qvggt.backends import BACKENDS
from qvggt.methods.rtn import Rtn
from qvggt.nn.convert import convert_layers, quantizable_layers
from qvggt.options import QuantizeOptions
from qvggt.quant.recipe import Provenance
from timing import Failed

_FILE = "module.pt"


def _prepared(change: Callable[[nn.Module], nn.Module], source: Source, folder: Path) -> None:
    torch.save(change(source.module), folder / _FILE)


def _open(compiled: bool, folder: Path, threads: int) -> Run:
    torch.set_num_threads(threads)
    module = torch.load(folder / _FILE, weights_only=False)
    call = torch.compile(module) if compiled else module
    # In inference mode our layers work in place to save memory, which the compiler does by itself or trips over.
    quietly = torch.no_grad if compiled else torch.inference_mode

    def run(tokens: np.ndarray) -> np.ndarray:
        with quietly():
            return call(torch.from_numpy(tokens)).numpy()

    return run


def as_it_is(module: nn.Module) -> nn.Module:
    """Return the module."""
    return module


def by_torchao(module: nn.Module) -> nn.Module:
    """Return a module whose linear layers hold int8 and round their inputs to int8, a scale a token."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    _check_linear(module)
    quantize_(module, Int8DynamicActivationInt8WeightConfig())
    for layer in module.modules():
        vars(layer).pop("extra_repr", None)  # its way to print them cannot be written to a file
    return module


def by_torch_dynamic(module: nn.Module) -> nn.Module:
    """Return a module with torch's own dynamically quantized linear layers."""
    _check_linear(module)
    return torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, torch.qint8)


def ours(backend: str, module: nn.Module) -> nn.Module:
    """Return a module as RTN makes it: linear layers of 4 bits in groups of 128, convolutions of 8 bits."""
    chosen = BACKENDS[backend]
    if reason := chosen.unsupported_reason(torch.device("cpu")):
        raise Failed(reason)
    recipe = Rtn(QuantizeOptions()).recipe(quantizable_layers(module), Provenance(method="rtn"))
    convert_layers(module, recipe, chosen)
    return module


def _check_linear(module: nn.Module) -> None:
    if not any(isinstance(layer, nn.Linear) for layer in module.modules()):
        raise Failed("it quantizes linear layers, and there are none here")


def _engine(change: Callable[[nn.Module], nn.Module], compiled: bool = False, runtime: str = "torch") -> Engine:
    return Engine(partial(_prepared, change), partial(_open, compiled), runtime)


TORCH_ENGINES = {
    "float32 eager": _engine(as_it_is),
    "torch.compile float32": _engine(as_it_is, compiled=True),
    "torch dynamic int8": _engine(by_torch_dynamic),
    "torchao dynamic int8": _engine(by_torchao, runtime="torchao"),
}
OUR_ENGINES = {
    "qvggt 4 bits, float": _engine(partial(ours, "cpu")),
    "qvggt 4 bits, int8": _engine(partial(ours, "cpu-native")),
}
