"""The report of ``qvggt doctor`` on a terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from qvggt.cli.show import count_text, say_rich
from qvggt.inference.process_memory import size_text

if TYPE_CHECKING:
    from qvggt.api.doctor import DoctorReport
    from qvggt.api.self_test import ComputeCheck, SelfTest
    from qvggt.machine.hardware import Gpu, Memory
    from qvggt.machine.needs import Need
    from qvggt.machine.software import Software

GOOD, POOR, BAD = "green", "yellow", "red"
_TABLE: dict[str, Any] = {"box": None, "header_style": "bold", "padding": (0, 0, 0, 2)}


def print_report(report: DoctorReport) -> None:
    """Print everything, a section a subject."""
    _print_machine(report)
    _print_software(report.software)
    _print_extras(report)
    _print_caches(report)
    _print_choices(report)
    _print_needs(report.needs)
    if report.self_test is not None:
        _print_self_test(report.self_test)


def _section(title: str) -> None:
    say_rich(Text())
    say_rich(Text(title, style="bold"))


def _rows(rows: Sequence[tuple[str, str | Text]]) -> None:
    """Print names with what is to be said of each, wrapped behind the names."""
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=12)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(f"  {name}"), text if isinstance(text, Text) else Text(text))
    say_rich(table)


def _print_machine(report: DoctorReport) -> None:
    cpu = report.cpu
    say_rich(Text("Machine", style="bold"))
    gpus = [(gpu.device, _gpu_text(gpu)) for gpu in report.gpus] or [("GPU", report.gpu_problem)]
    _rows(
        [
            ("CPU", f"{cpu.name}; {count_text(cpu.cores, 'core')}, torch uses {count_text(cpu.threads, 'thread')}"),
            ("features", ", ".join(cpu.features) or "none that speed up products"),
            ("memory", _memory_text(report.memory)),
            *gpus,
        ]
    )


def _gpu_text(gpu: Gpu) -> str:
    parts = [gpu.name]
    if gpu.total_bytes is not None and gpu.free_bytes is not None:
        parts.append(f"{size_text(gpu.total_bytes)}, {size_text(gpu.free_bytes)} free")
    if gpu.capability:
        parts.append(f"compute capability {gpu.capability}")
    return "; ".join(parts)


def _memory_text(memory: Memory) -> str:
    text = f"{size_text(memory.total_bytes)}, {size_text(memory.free_bytes)} free"
    if memory.limit_bytes is None or memory.limit_free_bytes is None:
        return text
    return (
        f"{text}; the container's limit is {size_text(memory.limit_bytes)}, {size_text(memory.limit_free_bytes)} free"
    )


def _print_software(software: Software) -> None:
    _section("Software")
    if software.compiler:
        compiler = f"{software.compiler_version} ({software.compiler})"
    else:
        compiler = Text("none: install gcc or clang, or set CC", style=POOR)
    ready = Text("ready", style=GOOD)
    _rows(
        [
            ("qvggt", software.qvggt),
            ("Python", f"{software.python} ({software.interpreter})"),
            ("torch", f"{software.torch}, built for {software.torch_build}"),
            ("system", software.system),
            ("C compiler", compiler),
            ("C library", Text(software.native_problem, style=POOR) if software.native_problem else ready),
        ]
    )


def _print_extras(report: DoctorReport) -> None:
    _section("Extras")
    rows: list[tuple[str, str | Text]] = []
    for extra in report.extras:
        there = ", ".join(f"{each.name} {each.version}" for each in extra.packages if each.fits)
        lacks = ", ".join(
            each.name + (f" {each.needed} (found {each.version})" if each.version else "")
            for each in extra.packages
            if not each.fits
        )
        if extra.installed:
            text = Text.assemble(("installed", GOOD), f": {there}")
        else:
            text = Text.assemble(("missing", POOR), f": {lacks}\n{extra.install}")
        rows.append((extra.name, text))
    _rows(rows or [("unknown", "qvggt is not installed as a package: pip install . in its folder")])


def _print_caches(report: DoctorReport) -> None:
    _section("Caches, which may be removed")
    _rows(
        [
            (cache.what, f"{size_text(cache.bytes)} in {count_text(cache.files, 'file')}, {cache.folder}")
            for cache in report.caches
        ]
    )


def _print_choices(report: DoctorReport) -> None:
    _section("What --device auto and --compute auto take")
    _rows(
        [
            (f"{taken.model}, {taken.weights}", f"{taken.compute} on {taken.device}: {taken.reason}")
            for taken in report.auto
        ]
    )


def _print_needs(needs: Sequence[Need]) -> None:
    _section("VGGT-1B, images of 518x518 px")
    timed = any(need.seconds for need in needs)
    columns = ("weights", "compute", "frames", "memory", "on this machine", *(("estimated time",) if timed else ()))
    table = Table(*columns, **_TABLE)
    for column in table.columns[2:4]:
        column.justify = "right"
    last = ""
    for need in needs:
        table.add_row(
            "" if need.weights == last else need.weights,
            "" if need.weights == last else need.compute,
            str(need.frames),
            size_text(need.peak_bytes),
            _fits_text(need),
            *((_seconds_text(need),) if timed else ()),
        )
        last = need.weights
    say_rich(table)
    usable = {need.device: need.usable_bytes for need in needs}
    told = ", ".join(f"{size_text(count)} on {device}" for device, count in usable.items())
    notes = [f"Free for a process: {told}. Cameras, depth and points, files included; qvggt plan has more."]
    if any(need.device != "cpu" for need in needs):
        notes.append("Memory of a GPU is computed from shapes and was not measured.")
    if timed:
        notes.append("Times are a guess from one product, timed just now; qvggt bench measures whole passes.")
    _notes(notes)


def _notes(lines: Sequence[str]) -> None:
    for line in lines:
        say_rich(Padding(Text(line, style="dim"), (0, 0, 0, 2), expand=False))


def _fits_text(need: Need) -> Text:
    if need.fits and need.reduced_bytes is None:
        return Text("fits", style=GOOD)
    if need.reduced_bytes is not None:
        return Text(f"with --memory {need.usable_bytes // 10**6}MB", style=POOR)
    return Text(f"with --window {need.window}" if need.window else "does not fit", style=POOR if need.window else BAD)


def _seconds_text(need: Need) -> str:
    if need.seconds is None:
        return ""
    low, high = need.seconds
    if high < 120:
        return f"{low:.0f} to {high:.0f} s" if high >= 10 else f"{low:.1f} to {high:.1f} s"
    return f"{low / 60:.0f} to {high / 60:.0f} min" if high < 7200 else f"{low / 3600:.1f} to {high / 3600:.1f} h"


def _print_self_test(test: SelfTest) -> None:
    _section("Self test: nano in 4 bits on the sample scene, against stored answers")
    if test.error:
        _rows([("", Text(f"failed: {test.error}", style=BAD))])
        return
    table = Table("compute", "device", "", "rotation, deg", "direction, deg", "depth, %", **_TABLE)
    table.add_row("quantization", "cpu", _verdict(test.quantized), "", "", "")
    for check in test.checks:
        table.add_row(check.compute, check.device, _verdict(check.passed), *_figures(check))
    say_rich(table)
    _notes(["In brackets the most that passes: the largest difference of a frame from float32."])
    for check in test.checks:
        if check.error:
            _rows([(check.compute, Text(check.error, style=BAD))])


def _verdict(passed: bool) -> Text:
    return Text("passed", style=GOOD) if passed else Text("failed", style=BAD)


def _figures(check: ComputeCheck) -> tuple[str, str, str]:
    found, most = check.difference, check.tolerance
    if found is None:
        return "", "", ""
    return (
        f"{found.rotation_deg:.3f} ({most.rotation_deg:g})",
        f"{found.translation_deg:.3f} ({most.translation_deg:g})",
        f"{100 * found.depth_rel:.3f} ({100 * most.depth_rel:g})",
    )
