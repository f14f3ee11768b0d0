"""OpenVINO's CPU plugin: float32, weights of 8 and 4 bits, and int8 throughout with ranges measured before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine import Engine, Run, Source
from onnx_engines import exported
from timing import Failed

_FILE = "model.xml"


def _as_it_is(model: Any, source: Source) -> Any:
    return model


def _weights_of_8_bits(model: Any, source: Source) -> Any:
    import nncf

    return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)


def _weights_of_4_bits(model: Any, source: Source) -> Any:
    import nncf

    # Where 128 does not divide a width groups are made to, as ours are.
    fallback = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
    mode = nncf.CompressWeightsMode.INT4_SYM
    made = nncf.compress_weights(model, mode=mode, group_size=128, all_layers=True, advanced_parameters=fallback)
    if not any(node.get_element_type().get_type_name() == "i4" for node in made.get_ops() if node.get_output_size()):
        raise Failed("it compresses matrices to 4 bits, and there are none here")
    return made


def _static_int8(model: Any, source: Source) -> Any:
    import nncf

    inputs = nncf.Dataset([source.tokens.numpy()])  # the very input that is timed: no other fits better
    return nncf.quantize(model, inputs, model_type=nncf.ModelType.TRANSFORMER, subset_size=1)


def _prepare(change: Callable[[Any, Source], Any], source: Source, folder: Path) -> None:
    import openvino

    model = change(openvino.Core().read_model(exported(source)), source)
    openvino.save_model(model, folder / _FILE, compress_to_fp16=False)


def _open(folder: Path, threads: int) -> Run:
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_HYPER_THREADING": True,  # or it leaves out threads that the others use
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.Core().compile_model(folder / _FILE, "CPU", options)

    def run(tokens: np.ndarray) -> np.ndarray:
        return np.asarray(model(tokens)[0])

    return run


def _engine(change: Callable[[Any, Source], Any], *tools: str) -> Engine:
    return Engine(partial(_prepare, change), _open, "openvino", ("onnx", "onnxscript", *tools))


OPENVINO_ENGINES = {
    "OpenVINO float32": _engine(_as_it_is),
    "OpenVINO 8-bit weights": _engine(_weights_of_8_bits, "nncf"),
    "OpenVINO 4-bit weights": _engine(_weights_of_4_bits, "nncf"),
    "OpenVINO static int8": _engine(_static_int8, "nncf"),
}
