"""ONNX Runtime: float32, dynamic int8, and weights of 4 bits; and the export that OpenVINO reads, too."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine import Engine, Run, Source
from timing import Failed
from workloads import written_plainly

_FILE = "model.onnx"
_TOOLS = ("onnx", "onnxscript")
_OPSET = 23
"""The first with an operator for attention."""
_INT8_SUMS = 4
"""ONNX Runtime's accuracy level at which activations are rounded to int8; 0 leaves them floating."""


def exported(source: Source) -> Path:
    """Return the piece as an ONNX file in float32, exported now if no engine has done so before."""
    path = source.shared / "float32.onnx"
    if not path.exists():
        with written_plainly(source.module):
            torch.onnx.export(
                source.module, (source.tokens,), path, dynamo=True, external_data=False, opset_version=_OPSET,
                verbose=False,
            )  # fmt: skip
    return path


def _as_it_is(exported_to: Path, target: Path) -> None:
    target.hardlink_to(exported_to)


def _dynamic_int8(exported_to: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kinds = ["MatMul", "Gemm", "Conv"]  # what it takes attention for is an operator of its own of that name
    quantize_dynamic(exported_to, target, op_types_to_quantize=kinds, weight_type=QuantType.QInt8, per_channel=True)


def _four_bits(accuracy_level: int, exported_to: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.disable(logging.INFO)  # it tells of every node
    model: Any = onnx.load(exported_to)
    quantizer: Any = MatMulNBitsQuantizer(model, block_size=128, is_symmetric=True, accuracy_level=accuracy_level)
    quantizer.process()
    if not any(node.op_type == "MatMulNBits" for node in quantizer.model.model.graph.node):
        raise Failed("it quantizes products with constant matrices, and there are none here")
    quantizer.model.save_model_to_file(str(target))


def _prepare(change: Callable[[Path, Path], None], source: Source, folder: Path) -> None:
    change(exported(source), folder / _FILE)


def _open(folder: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(folder / _FILE, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(tokens: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {name: tokens})[0])

    return run


def _engine(change: Callable[[Path, Path], None]) -> Engine:
    return Engine(partial(_prepare, change), _open, "onnxruntime", _TOOLS)


ONNX_ENGINES = {
    "ONNX Runtime float32": _engine(_as_it_is),
    "ONNX Runtime dynamic int8": _engine(_dynamic_int8),
    "ONNX Runtime 4 bits, float": _engine(partial(_four_bits, 0)),
    "ONNX Runtime 4 bits, int8": _engine(partial(_four_bits, _INT8_SUMS)),
}
