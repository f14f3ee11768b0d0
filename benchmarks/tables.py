"""Figures of the two scripts as Markdown, for the terminal and for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CAPABILITIES = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8")
_BUSY = 0.5


def kernels_table(values: Mapping[str, Any]) -> str:
    """Return a row for every contender and a column for every product."""
    rows = values["rows"]
    shapes = list(dict.fromkeys(row["workload"] for row in rows))
    lines = [f"| milliseconds | {' | '.join(shapes)} | difference |", "|---|" + "--:|" * (len(shapes) + 1)]
    for name in dict.fromkeys(row["contender"] for row in rows):
        found = {row["workload"]: row for row in rows if row["contender"] == name}
        cells = [_product(found[shape]) for shape in shapes]
        largest = max((row["relative_difference"] for row in found.values() if "reason" not in row), default=None)
        lines.append(f"| {name} | {' | '.join(cells)} | {_difference(largest)} |")
    return "\n".join([*lines, "", _foot(values["environment"])])


def engines_table(values: Mapping[str, Any]) -> str:
    """Return a table for every workload, with a row for every engine."""
    lines: list[str] = []
    for workload in dict.fromkeys(row["workload"] for row in values["rows"]):
        lines += [f"| {workload} | ms | faster | peak memory | weights | difference |", "|---|--:|--:|--:|--:|--:|"]
        for row in values["rows"]:
            if row["workload"] == workload:
                lines.append(_engine_row(row))
        lines.append("")
    return "\n".join([*lines, _foot(values["environment"])])


def _engine_row(row: Mapping[str, Any]) -> str:
    if "reason" in row:
        return f"| {row['contender']} | {_reason(row)} | | | | |"
    peak, weights = f"{row['peak_memory_bytes'] / 1e6:.0f} MB", f"{row['weight_bytes'] / 1e6:.1f} MB"
    cells = (row["contender"], _time(row), _speedup(row), peak, weights, _difference(row["relative_difference"]))
    return f"| {' | '.join(cells)} |"


def _product(row: Mapping[str, Any]) -> str:
    return _reason(row) if "reason" in row else f"{_time(row)}, {_speedup(row)}"


def _reason(row: Mapping[str, Any]) -> str:
    return row["reason"].replace("|", "/")


def _time(row: Mapping[str, Any]) -> str:
    median, least, most = (_milliseconds(row[name]) for name in ("seconds", "seconds_least", "seconds_most"))
    return f"{median} ({least}–{most})"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


def _speedup(row: Mapping[str, Any]) -> str:
    return f"{row['speedup']:.2f}x" if "speedup" in row else ""


def _difference(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1e}" if 0 < value < 1e-3 else f"{value:.4f}"


def _foot(about: Mapping[str, Any]) -> str:
    """Return one line about machine and versions."""
    features = [name for name in _CAPABILITIES if name in about["cpu_features"]]
    versions = [
        f"{name} {about[name]}" for name in ("torch", "torchao", "onnxruntime", "openvino", "nncf") if about.get(name)
    ]
    busy = about["load_before"] >= _BUSY
    load = f" The machine was busy: {about['load_before']:.1f} processes wanted a core before the run." if busy else ""
    threads = f"{about['threads']} thread" + "s" * (about["threads"] != 1)
    return (
        f"{about['cpu']}: {', '.join(features) or 'none of the features that count'}; {threads} of {about['cores']} "
        f"cores; {', '.join(versions)}; medians, with least and most.{load}"
    )
