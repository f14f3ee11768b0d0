"""A run that is stopped at any moment, or started twice, loses nothing and repeats nothing."""

import dataclasses
import json
import signal

import pytest
from safetensors.torch import load_file

from qvggt.files import lock_folder
from qvggt.train import loop
from qvggt.train.loop import train
from qvggt.train.optim import Optimizer
from qvggt.train.recipe import Phase, TrainRecipe
from qvggt.train.undivided import undivided
from qvggt.types import QvggtError
from qvggt.weights.open import open_weights

TINY = TrainRecipe("micro", (Phase(4, 28, 4, frames=(2,)),), warmup_steps=1, cooldown_steps=1, validate_steps=2)
pytestmark = pytest.mark.render


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same(one, other):
    one, other = load_file(one), load_file(other)
    return all(tensor.equal(other[name]) for name, tensor in one.items())


@pytest.fixture
def judged(monkeypatch):
    """Validate without rooms, and count how often."""
    calls = []

    def validate(model, width, landmarks, device):
        calls.append(landmarks)
        return {"auc30": 1.0}

    monkeypatch.setattr(loop, "validate", validate)
    return calls


@pytest.fixture
def interruptible():
    """Let SIGINT interrupt, also where the tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits_for_the_end_of_what_is_undivided(interruptible):
    done = []

    def run():
        with undivided():
            signal.raise_signal(signal.SIGINT)
            done.append("inside")
        done.append("after")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert done == ["inside"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_in_the_middle_of_an_update_stops_after_it(tmp_path, judged, monkeypatch, interruptible):
    whole = train(TINY, tmp_path / "whole")
    step = Optimizer.step

    def interrupted(self, number):
        if number == 2 and not judged.count("sent"):
            judged.append("sent")
            signal.raise_signal(signal.SIGINT)
        return step(self, number)

    monkeypatch.setattr(Optimizer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "parts")
    reached = []
    parts = train(TINY, tmp_path / "parts", on_progress=lambda progress: reached.append(progress.step))
    assert same(whole, parts)
    assert reached == [4]


def test_a_validation_that_was_interrupted_is_done_at_once(tmp_path, judged, monkeypatch):
    working = loop.validate

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "validate", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path)
    monkeypatch.setattr(loop, "validate", working)
    train(TINY, tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]


def test_a_finished_run_says_where_it_is_and_validates_no_more(tmp_path, judged):
    train(TINY, tmp_path)
    count, reached = len(judged), []
    train(TINY, tmp_path, on_progress=reached.append)
    assert [(each.step, each.figures.keys() >= {"total"}) for each in reached] == [(4, True)]
    assert len(judged) == count


def test_a_second_run_in_the_folder_is_refused_before_it_touches_the_log(tmp_path, judged):
    train(TINY, tmp_path)
    more = (tmp_path / "log.jsonl").read_text() + '{"step": 5}\n'
    (tmp_path / "log.jsonl").write_text(more)
    with lock_folder(tmp_path), pytest.raises(QvggtError, match="another command is writing"):
        train(TINY, tmp_path)
    assert (tmp_path / "log.jsonl").read_text() == more


def test_other_weights_to_begin_with_are_refused_and_other_notes_are_not(tmp_path, judged):
    first = open_weights(train(TINY, tmp_path / "a", minutes=0))
    other = open_weights(train(dataclasses.replace(TINY, seed=5), tmp_path / "b", minutes=0))
    train(TINY, tmp_path / "c", start_from=first, minutes=0)
    with pytest.raises(QvggtError, match="began with other weights; leave out --start-from"):
        train(TINY, tmp_path / "c", start_from=other, minutes=0)
    train(TINY, tmp_path / "c", start_from=first, minutes=0)
    train(dataclasses.replace(TINY, notes="new"), tmp_path / "c", minutes=0)
