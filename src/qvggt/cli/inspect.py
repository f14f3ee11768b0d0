"""``qvggt inspect``: what is in a checkpoint."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import tyro

from qvggt.cli.arguments import Json


def inspect(
    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR", help="a quantized checkpoint")],
    verify: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="hash every tensor anew")] = False,
    layers: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="a row a layer, not a part")] = False,
    json: Json = None,
) -> None:
    """Show a quantized checkpoint's layers, bits, bytes and where it came from."""
    from rich.table import Table

    from qvggt import artifacts
    from qvggt.cli.show import console, size_text
    from qvggt.files import write_json

    report = artifacts.inspect(checkpoint)
    checked = artifacts.verify(checkpoint) if verify else None
    total = sum(layer.bytes for layer in report.layers)
    table = Table("part", "layers", "bits", "group", "parameters", "bytes", "share", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = defaultdict(list)
    for layer in report.layers:
        key = layer.name if layers else f"{layer.part} {layer.kind}" if layer.kind != "rest" else f"{layer.part} other"
        rows[key, layer.bits, layer.group_size].append(layer)
    for (name, bits, group), members in rows.items():
        size = sum(layer.bytes for layer in members)
        table.add_row(
            name,
            str(len(members)),
            str(bits),
            {None: "", -1: "channel"}.get(group, str(group)),
            f"{sum(layer.parameters for layer in members):,}",
            size_text(size),
            f"{100 * size / total:.1f} %",
        )
    console.print(table)
    console.print(
        f"{report.parameters / 1e6:.1f} M parameters, {report.average_bits:.2f} bits on average, "
        f"{size_text(report.checkpoint_bytes)} in all"
    )
    source = report.provenance
    console.print(
        f"{source.method or 'unknown method'} of {source.source or 'a model in memory'}, {source.source_hash}"
    )
    if checked is not None:
        console.print(f"{checked} tensors are as they were written")
    write_json(json, report.to_json() | {"verified_tensors": checked})
