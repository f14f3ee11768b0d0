"""``qvggt inspect``: layers, bits and bytes of a model."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

from qvggt.cli import arguments as given
from qvggt.cli.arguments import Flag, flag

if TYPE_CHECKING:
    from qvggt.checkpoint.report import LayerReport, LevelReport


def inspect(
    model: given.Model,
    verify: Annotated[bool, Flag, flag("compare the files with their checksums")] = False,
    layers: Annotated[bool, Flag, flag("one row per layer instead of per part of the model")] = False,
    revision: given.Revision = None,
    json: given.Json = None,
) -> None:
    """Show a model's layers, bits, bytes and origin.

    --verify reads all files: every tensor of a quantized checkpoint has a hash, .pt files have checksums, and files
    from a hub are compared with the hub's own hash.
    """
    from rich.table import Table

    from qvggt.checkpoint.open import open_model
    from qvggt.checkpoint.report import inspect_model
    from qvggt.cli.show import check_figures, save_figures, say, say_table
    from qvggt.inference.process_memory import size_text

    check_figures(json)
    opened = open_model(model, revision)
    report = inspect_model(opened)
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
    size = "" if report.checkpoint_bytes is None else f", {size_text(report.checkpoint_bytes)} in total"
    say(f"{report.parameters / 1e6:.1f} M parameters, {report.average_bits:.2f} bits on average{size}")
    source = report.provenance
    if opened.recipe is not None:
        origin = (source.source or "a model in memory") + (f" ({source.source_hash})" if source.source_hash else "")
        say(f"made by {source.method or 'an unknown method'} from {origin}")
    for level in report.attention:
        say(_level_text(level))
    if checked == 0:
        say("not verified: the files have no checksums, and are not from a hub")
    elif checked is not None:
        say(f"verified: the checksums of all {checked} tensors match")
    save_figures(json, report.to_json() | {"verified_tensors": checked})


def _level_text(level: LevelReport) -> str:
    share = f"{level.products_share:.2f} of exact attention's products"
    return f"global attention from {level.min_frames} frames on: {', '.join(level.blocks)} ({share})"


def _input_text(layer: LayerReport) -> str:
    rounded = f"{layer.activation_bits} bits" if layer.activation_bits else ""
    return " ".join(word for word in (rounded, "rotated" if layer.rotation else "") if word)
