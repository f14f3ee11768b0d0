"""The fastest kernel is used, measured once per problem; one that fails is reported once and not tried again."""

import logging

import pytest
import torch

from qvggt.backends.autotune import Autotuner


class Clock:
    """A timer with given durations."""

    def __init__(self, **seconds):
        self.seconds = seconds
        self.asked = []

    def __call__(self, run):
        name = names[int(run())]
        self.asked.append(name)
        return self.seconds[name]


names = ("sure", "quick")
WAYS = {name: lambda number=number: torch.tensor(number) for number, name in enumerate(names)}


@pytest.mark.parametrize(("seconds", "fastest"), [({"sure": 1, "quick": 2}, 0), ({"sure": 2, "quick": 1}, 1)])
def test_the_fastest_way_is_taken_and_measured_once_a_task(seconds, fastest):
    clock = Clock(**seconds)
    choose = Autotuner(clock)
    assert [int(choose(task, WAYS)) for task in ("a", "a", "b", "a")] == [fastest] * 4
    assert clock.asked == ["sure", "quick"] * 2


def test_each_task_has_a_choice_of_its_own():
    clock = Clock(sure=2, quick=1)
    choose = Autotuner(clock)
    assert int(choose("a", WAYS)) == 1
    clock.seconds["quick"] = 3
    assert int(choose("b", WAYS)) == 0
    assert int(choose("a", WAYS)) == 1


def test_a_way_that_fails_is_named_once_and_not_tried_again(caplog):
    tried = []

    def broken():
        tried.append(1)
        raise OSError("no compiler\nat all")

    choose = Autotuner(Clock(sure=1))
    with caplog.at_level(logging.WARNING):
        for task in ("a", "b"):
            assert int(choose(task, {"sure": WAYS["sure"], "broken": broken})) == 0
    assert len(tried) == 1
    (message,) = caplog.messages
    assert "'broken'" in message
    assert "no compiler" in message
    assert "at all" not in message


def test_the_surest_way_may_not_fail():
    def broken():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        Autotuner(Clock(quick=1))("a", {"sure": broken, "quick": WAYS["quick"]})
