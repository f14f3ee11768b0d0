"""Tables of a run for the terminal and the page."""

import pytest

from tables import engines_table, kernels_table
from timing import environment, spread, with_speedups


def values(*rows):
    about = {**environment(1), "load_before": 0.0}
    return {"environment": about, "rows": [{"group": "g", **row} for row in rows]}


def measured(workload, contender, seconds, difference=0.01):
    memory = {"peak_memory_bytes": 2_000_000, "weight_bytes": 500_000}
    return {
        "workload": workload,
        "contender": contender,
        **spread(seconds),
        **memory,
        "relative_difference": difference,
    }


def test_products_are_columns():
    rows = with_speedups([measured("a", "x", [0.2]), measured("a", "y", [0.1, 0.3, 0.1], 5e-5)], "x")
    rows += [*with_speedups([measured("b", "x", [0.4])], "x"), {"workload": "b", "contender": "y", "reason": "a | b"}]
    text = kernels_table(values(*rows)).splitlines()
    assert text[0] == "| milliseconds | a | b | difference |"
    assert text[2] == "| x | 200 (200–200), 1.00x | 400 (400–400), 1.00x | 0.0100 |"
    assert text[3] == "| y | 100 (100–300), 2.00x | a / b | 5.0e-05 |"
    assert "busy" not in text[-1]


def test_engines_are_rows():
    rows = with_speedups([measured("a", "x", [0.2]), {"workload": "a", "contender": "y", "reason": "absent"}], "x")
    text = engines_table(values(*rows)).splitlines()
    assert text[2] == "| x | 200 (200–200) | 1.00x | 2 MB | 0.5 MB | 0.0100 |"
    assert text[3] == "| y | absent | | | | |"


def test_without_float32_nobody_is_faster():
    rows = with_speedups([{**measured("a", "x", [0.2], None)}, {"contender": "f", "reason": "no"}], "f")
    assert "speedup" not in rows[0]
    assert engines_table(values(rows[0])).splitlines()[2] == "| x | 200 (200–200) |  | 2 MB | 0.5 MB |  |"


def test_a_busy_machine_is_noted():
    found = values(measured("a", "x", [0.2]))
    found["environment"]["load_before"] = 3.0
    rows = with_speedups(found["rows"], "x")
    assert "The machine was busy: 3.0" in kernels_table({**found, "rows": rows})


def test_times_have_a_spread():
    assert spread([3.0, 1.0, 2.0])["seconds"] == pytest.approx(2.0)
