"""``qvggt quantize``: a float model to a packed checkpoint."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import tyro

from qvggt.cli.arguments import Json, Model, Output, Overwrite, Revision

Layers = Annotated[
    tuple[str, ...],
    tyro.conf.arg(metavar="PATTERN", help="groups, names, globs or re:EXPRESSION; other layers stay float"),
]


def quantize(
    model: Model,
    output: Output,
    method: Annotated[Literal["rtn"], tyro.conf.arg(help="rtn rounds every weight to the nearest level")] = "rtn",
    bits: Annotated[int, tyro.conf.arg(metavar="2..8", help="of a linear layer's weight")] = 4,
    group_size: Annotated[
        int, tyro.conf.arg(metavar="NUMBER", help="input channels that share a scale; -1: one scale a channel")
    ] = 128,
    zero_points: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="a zero point a group, in place of a symmetric range", help_behavior_hint=""),
    ] = False,
    scale_rule: Annotated[
        Literal["absmax", "mse"], tyro.conf.arg(help="cover the largest weight, or clip for the least squared error")
    ] = "absmax",
    conv_bits: Annotated[
        int, tyro.conf.arg(metavar="2..8|16", help="of a convolution's weight; 16 keeps it float")
    ] = 8,
    layers: Layers = ("all",),
    float_type: Annotated[
        Literal["float32", "float16", "bfloat16"], tyro.conf.arg(help="of all that is not quantized")
    ] = "float16",
    revision: Revision = None,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """Quantize a model to a checkpoint that other tools read too.

    One layer at a time goes from the model's file to the checkpoint, so neither is ever in memory as a whole.
    """
    from qvggt import api
    from qvggt.cli.show import check_figures, peak_memory_bytes, progress, save_figures, say, size_text
    from qvggt.methods.rtn import RtnOptions
    from qvggt.quant.scheme import FloatScheme, Scheme

    scheme = Scheme(bits, group_size, not zero_points, scale_rule)
    conv = FloatScheme(float_type) if conv_bits == 16 else Scheme(conv_bits, group_size, not zero_points, scale_rule)
    check_figures(json)
    started = time.perf_counter()
    with progress(model) as update:
        options = RtnOptions(scheme, conv, layers, float_type)
        report = api.quantize_to(model, output, method, options, overwrite, revision, update)
    figures = {
        "model": model,
        "method": method,
        "parameters": report.parameters,
        "average_bits": report.average_bits,
        "checkpoint_bytes": report.checkpoint_bytes,
        "float32_bytes": report.float_bytes,
        "seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(),
    }
    say(
        f"{output}: {report.parameters / 1e6:.1f} M parameters at {report.average_bits:.2f} bits, "
        f"{size_text(report.checkpoint_bytes)} ({report.float_bytes / report.checkpoint_bytes:.1f}x smaller "
        f"than the {size_text(report.float_bytes)} of float32)"
    )
    say(f"{figures['seconds']:.1f} s, peak memory {size_text(figures['peak_memory_bytes'])}")
    save_figures(json, figures)
