import threading

import numpy as np
import pytest

from qvggt.app import pace
from qvggt.app.cloud import LEVELS, affordable_level, level_count
from qvggt.app.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """Return a clock to be set by hand, whose timers are fired by hand."""

    class Clock:
        def __init__(self):
            self.now, self.timers = 0.0, []

        def __call__(self):
            return self.now

    class Timer:
        def __init__(self, seconds, function):
            self.seconds, self.function = seconds, function
            clock.timers.append(self)

        def start(self):
            pass

        cancel = start

    clock = Clock()
    monkeypatch.setattr(pace.threading, "Timer", Timer)
    return clock


def test_a_view_rests_after_a_while_without_changes(clock):
    rested = []
    view = Pace(lambda: rested.append(clock.now), clock)
    assert not view.moving
    for now in (0.0, 0.05, 0.1):
        clock.now = now
        view.moved()
    assert view.moving
    assert len(clock.timers) == 1  # one timer for all changes
    clock.now = 0.4
    clock.timers[0].function()
    assert view.moving
    assert clock.timers[1].seconds == pytest.approx(0.1)
    clock.now = 0.51
    clock.timers[1].function()
    assert not view.moving
    assert rested == [0.51]


def test_a_browser_that_draws_slowly_is_given_time(clock):
    view = Pace(lambda: None, clock)
    for now in (0.0, 1.0, 2.0, 3.0, 4.0):
        clock.now = now
        view.moved()
    clock.now = 7.5
    clock.timers[0].function()
    assert view.moving
    clock.now = 8.1
    clock.timers[1].function()
    assert not view.moving


def test_a_slow_browser_is_not_taken_for_one_that_rests_between_two_pictures(clock):
    rested = []
    view = Pace(lambda: rested.append(clock.now), clock)
    for now in (0.0, 0.01, 3.0, 3.02, 6.0, 6.01, 9.0, 12.0):  # seconds for a picture, and two reports of each
        for step in np.arange(clock.now, now, 0.1):
            clock.now = step
            if view.moving:
                clock.timers[-1].function()
        clock.now = now
        view.moved()
    assert len(rested) == 1  # before it was known to be slow
    assert view.slow
    clock.now = 22.1
    clock.timers[-1].function()
    assert not view.moving


def test_a_pause_between_two_moves_makes_a_browser_slow_for_a_moment_only(clock):
    view = Pace(lambda: None, clock)
    for start in (0.0, 3.0, 7.0):
        for step in range(20):
            clock.now = start + 0.03 * step
            view.moved()
            assert view.slow == (start > 0 and step < 4)
    clock.now = 7.0 + 0.03 * 19 + 0.41
    clock.timers[-1].function()
    assert not view.moving


def test_a_real_timer_calls_once():
    rested = threading.Event()
    view = Pace(rested.set)
    view.moved()
    assert rested.wait(20)
    assert not view.moving
    view.moved()
    view.stop()
    assert not view.moving


@pytest.mark.parametrize(("count", "limit", "level"), [(100, 100, 4), (1_000_000, 250_000, 2), (10**6, 1, 0)])
def test_affordable_level_keeps_to_the_limit(count, limit, level):
    assert affordable_level(count, limit) == level
    assert level == 0 or level_count(count, level) <= limit
    assert level == LEVELS - 1 or level_count(count, level + 1) > limit
