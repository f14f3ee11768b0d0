"""``qvggt doctor``: what this machine has, what runs on it, and whether it computes right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from qvggt.cli import arguments as given

if TYPE_CHECKING:
    from qvggt.api.doctor import DoctorReport


def doctor(
    quick: Annotated[bool, given.Flag, given.flag("leave out the self test and the timed products")] = False,
    json: given.Json = None,
) -> None:
    """Say what this machine has, what runs on it and how fast, and test whether it computes right.

    The exit status is 1 if the self test fails. Nothing is downloaded.
    """
    from qvggt.api.doctor import doctor as examine
    from qvggt.cli.doctor_page import print_report
    from qvggt.cli.show import check_figures, progress, save_figures
    from qvggt.types import QvggtError

    check_figures(json)
    with progress("doctor") as update:
        report = examine(quick, update)
    print_report(report)
    save_figures(json, report.to_json())
    if not report.passed:
        raise QvggtError(f"the self test failed: {_reason(report)}")


def _reason(report: DoctorReport) -> str:
    """Return what failed, and what can be done about it."""
    test = report.self_test
    assert test is not None
    if test.error:
        return test.error
    failed = [f"{check.compute} on {check.device}" for check in test.checks if not check.passed]
    if not test.quantized:
        failed.insert(0, "quantization")
    return f"{', '.join(failed)}; choose another mode with --compute, update torch, or report it with --json"
