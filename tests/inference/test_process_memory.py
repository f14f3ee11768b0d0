import json
import subprocess
import sys

import pytest

from qvggt.inference import process_memory
from qvggt.inference.process_memory import StageClock


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that an hour passes on at every look, and what it told in turn."""
    hours = iter(range(100))
    monkeypatch.setattr(process_memory.time, "perf_counter", lambda: 3600.0 * next(hours))
    told = []
    return StageClock(lambda what, share: told.append((what, share)), ("quantizing",)), told


def test_stage_clock__measures_from_first_report_to_the_next_stage(clock):
    clock, told = clock
    for what in ("reading", "quantizing frame/0", "quantizing global/0", "tuning"):
        clock(what, 0.5)
    found = clock.costs()
    assert [(cost.stage, cost.seconds) for cost in found] == [("reading", 3600), ("quantizing", 3600), ("tuning", 3600)]
    assert told[1:3] == [("quantizing frame/0", 0.5), ("quantizing global/0", 0.5)]


def test_stage_clock__adds_up_a_stage_that_is_reported_again(clock):
    clock, _ = clock
    for what in ("a", "b", "a"):
        clock(what, 0.0)
    assert [(cost.stage, cost.seconds) for cost in clock.costs()] == [("a", 7200), ("b", 3600)]


def test_stage_clock__memory_is_the_peak_so_far(clock):
    clock, _ = clock
    clock("a", 0.0)
    (cost,) = clock.costs()
    assert 1e6 < cost.peak_memory_bytes <= process_memory.peak_memory_bytes()
    assert cost.to_json() == {"stage": "a", "seconds": 3600.0, "peak_memory_bytes": cost.peak_memory_bytes}


ALLOCATE_AND_FREE = """
import json, torch
from qvggt.inference.process_memory import release_freed_memory, resident_memory_bytes, retain_freed_memory

def released(elements, policy, after=lambda: None):
    policy()
    blocks = [torch.ones(elements) for _ in range(120_000_000 // elements // 4)]
    before = resident_memory_bytes()
    del blocks[:-1]
    after()
    return before - resident_memory_bytes()

print(json.dumps([
    released(10_000_000, release_freed_memory),
    released(10_000_000, retain_freed_memory),
    released(1_000_000, retain_freed_memory, after=release_freed_memory),
]))
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="sets thresholds of glibc")
def test_malloc_thresholds__freed_memory_is_released_or_retained():
    done = subprocess.run([sys.executable, "-c", ALLOCATE_AND_FREE], capture_output=True, text=True, check=True)
    at_once, retained, afterwards = json.loads(done.stdout)
    assert at_once > 60e6
    assert retained < 20e6
    assert afterwards > 60e6
