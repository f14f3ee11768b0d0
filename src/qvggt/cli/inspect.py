"""``qvggt inspect``: contents and origin of a checkpoint."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvggt.cli import arguments as given
from qvggt.cli.arguments import Flag, flag
from qvggt.types import QvggtError

if TYPE_CHECKING:
    from qvggt.checkpoint.report import LayerReport


def inspect(
    checkpoint: Annotated[Path, given.Positional, given.argument("DIR", "a quantized checkpoint")],
    verify: Annotated[bool, Flag, flag("check the hash of every tensor")] = False,
    layers: Annotated[bool, Flag, flag("one row per layer instead of per part of the model")] = False,
    json: given.Json = None,
) -> None:
    """Show a checkpoint's layers, bits, bytes and origin."""
    from rich.table import Table

    from qvggt.checkpoint.folder import is_checkpoint, open_checkpoint
    from qvggt.checkpoint.report import inspect_checkpoint
    from qvggt.cli.show import check_figures, save_figures, say, say_table
    from qvggt.inference.process_memory import size_text

    if not is_checkpoint(checkpoint):
        raise QvggtError(f"{str(checkpoint)!r} is not a quantized checkpoint: give a folder that qvggt quantize wrote")
    check_figures(json)
    opened = open_checkpoint(checkpoint)
    report = inspect_checkpoint(opened)
    checked = opened.verify() if verify else None
    total = sum(layer.bytes for layer in report.layers)
    inputs = any(_input_text(layer) for layer in report.layers)
    columns = ("part", "layers", "bits", "group", *(("input",) if inputs else ()), "parameters", "bytes", "share")
    table = Table(*columns, box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = defaultdict(list)
    for layer in report.layers:
        key = layer.name if layers else f"{layer.part} {layer.kind}" if layer.kind != "rest" else f"{layer.part} other"
        rows[key, layer.bits, layer.group_size, _input_text(layer)].append(layer)
    for (name, bits, group, input_text), members in rows.items():
        size = sum(layer.bytes for layer in members)
        table.add_row(
            name,
            str(len(members)),
            str(bits),
            {None: "", -1: "channel"}.get(group, str(group)),
            *((input_text,) if inputs else ()),
            f"{sum(layer.parameters for layer in members):,}",
            size_text(size),
            f"{100 * size / total:.1f} %",
        )
    say_table(table)
    say(
        f"{report.parameters / 1e6:.1f} M parameters, {report.average_bits:.2f} bits on average, "
        f"{size_text(report.checkpoint_bytes)} in total"
    )
    source = report.provenance
    say(
        f"made by {source.method or 'an unknown method'} from {source.source or 'a model in memory'}"
        + (f" ({source.source_hash})" if source.source_hash else "")
    )
    if checked is not None:
        say(f"verified: the hashes of all {checked} tensors match")
    save_figures(json, report.to_json() | {"verified_tensors": checked})


def _input_text(layer: LayerReport) -> str:
    rounded = f"{layer.activation_bits} bits" if layer.activation_bits else ""
    return " ".join(word for word in (rounded, "rotated" if layer.rotation else "") if word)
