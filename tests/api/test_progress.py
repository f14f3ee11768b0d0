"""The progress callback of load, quantize and reconstruct, and the bar that shows it."""

import io
import sys
from types import ModuleType, SimpleNamespace

import pytest

import qvggt
from qvggt.api import progress
from qvggt.weights.pretrained import sample_images

MICRO = "seeded:micro"


class Stopped(Exception):
    pass


def test_load_quantize_and_reconstruct_report_their_stages():
    seen = {}

    def note(stage, share):
        seen.setdefault(stage, []).append(share)

    model = qvggt.load(MICRO, "cpu", "float32", on_progress=note)
    assert list(seen) == ["opening", "loading weights"]
    seen.clear()
    qvggt.quantize(MICRO, on_progress=note)
    assert list(seen) == ["opening", "quantizing", "done"]
    seen.clear()
    qvggt.reconstruct(model, sample_images()[:2], on_progress=note)
    assert list(seen) == [
        "reading images",
        *(f"2 frames, {s}" for s in ("patch embedding", "attention", "depth maps", "done")),
    ]
    shares = [share for reports in seen.values() for share in reports]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_a_calibrated_quantization_reports_its_stages():
    from qvggt.options import CalibrationOptions, QuantizeOptions

    seen = []
    options = QuantizeOptions(calibration=CalibrationOptions(scenes=2, frames=2))
    qvggt.quantize(MICRO, "gptq", options, on_progress=lambda stage, share: seen.append(stage))
    assert {"opening", "reading calibration scenes", "running the float model", "measuring the result"} <= set(seen)


def test_what_the_callback_raises_ends_the_work():
    def stop(stage, share):
        if "attention" in stage:
            raise Stopped

    with pytest.raises(Stopped):
        qvggt.reconstruct(MICRO, sample_images()[:2], on_progress=stop)


@pytest.fixture
def notebook(monkeypatch):
    """Stand in for IPython in a notebook, and return what its one display showed."""
    shown = []
    ipython, parts = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())

    def display(value, display_id):
        assert display_id
        shown.append(value)
        return SimpleNamespace(update=shown.append)

    parts.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", parts)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN", 0.0)
    return shown


def test_a_notebook_shows_a_bar_that_vanishes_at_the_end(notebook):
    with qvggt.progress_bar("out/<b>nano") as update:
        update("attention", 0.25)
    first, middle, last = notebook
    assert repr(first) == "<b>nano 0 %"
    assert repr(middle) == "<b>nano: attention 25 %"
    assert middle._repr_html_() == '<progress max="1" value="0.250"></progress> &lt;b&gt;nano: attention'
    assert (repr(last), last._repr_html_()) == ("", "")


def test_a_notebook_bar_vanishes_after_an_error_too(notebook):
    with pytest.raises(Stopped), qvggt.progress_bar():
        raise Stopped
    assert repr(notebook[-1]) == ""


def test_a_notebook_is_not_flooded(notebook, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN", 3600.0)
    with qvggt.progress_bar() as update:
        for step in range(1000):
            update("attention", step / 1000)
    assert len(notebook) == 2


def test_a_terminal_shows_a_line_and_a_file_nothing(monkeypatch):
    for is_terminal in (True, False):
        screen = io.StringIO()
        screen.isatty = lambda is_terminal=is_terminal: is_terminal
        monkeypatch.setattr(sys, "stderr", screen)
        with qvggt.progress_bar("a/nano") as update:
            update("[attention]", 0.5)
        assert ("nano: [attention]" in screen.getvalue()) == is_terminal


def test_the_ipython_shell_of_a_terminal_is_no_notebook(monkeypatch):
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace()
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert progress._notebook_display() is None
