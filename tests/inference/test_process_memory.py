import subprocess
import sys

import pytest

from qvggt.inference import process_memory as costs
from qvggt.inference.process_memory import StageClock


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that an hour passes on at every look, and what it told in turn."""
    hours = iter(range(100))
    monkeypatch.setattr(costs.time, "perf_counter", lambda: 3600.0 * next(hours))
    told = []
    return StageClock(lambda what, share: told.append((what, share)), ("quantizing",)), told


def test_stages_are_measured_from_their_first_call_to_the_next_stages(clock):
    clock, told = clock
    for what in ("reading", "quantizing frame/0", "quantizing global/0", "tuning"):
        clock(what, 0.5)
    found = clock.costs()
    assert [(cost.stage, cost.seconds) for cost in found] == [("reading", 3600), ("quantizing", 3600), ("tuning", 3600)]
    assert told[1:3] == [("quantizing frame/0", 0.5), ("quantizing global/0", 0.5)]


def test_a_stage_that_comes_again_adds_up(clock):
    clock, _ = clock
    for what in ("a", "b", "a"):
        clock(what, 0.0)
    assert [(cost.stage, cost.seconds) for cost in clock.costs()] == [("a", 7200), ("b", 3600)]


def test_memory_is_the_peak_so_far(clock):
    clock, _ = clock
    clock("a", 0.0)
    (cost,) = clock.costs()
    assert 1e6 < cost.peak_memory_bytes <= costs.peak_memory_bytes()
    assert cost.to_json() == {"stage": "a", "seconds": 3600.0, "peak_memory_bytes": cost.peak_memory_bytes}


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries have their own ways")
@pytest.mark.parametrize(("policy", "stays"), [("retain_freed_memory", True), ("release_freed_memory", False)])
def test_memory_that_is_freed_stays_or_goes(policy, stays):
    code = (
        "import sys, torch; from qvggt.inference import process_memory as costs\n"
        f"costs.{policy}()\n"
        "blocks = [torch.ones(10_000_000) for _ in range(3)]; before = costs.resident_memory_bytes(); del blocks\n"
        "sys.exit(int(before - costs.resident_memory_bytes() < 60e6))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == stays


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries have their own ways")
def test_memory_that_was_kept_can_still_go_back():
    code = (
        "import sys, torch; from qvggt.inference import process_memory as costs\n"
        "costs.retain_freed_memory()\n"
        "blocks = [torch.ones(1_000_000) for _ in range(30)]; before = costs.resident_memory_bytes(); del blocks[:-1]\n"
        "costs.release_freed_memory(); sys.exit(int(before - costs.resident_memory_bytes() < 60e6))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
