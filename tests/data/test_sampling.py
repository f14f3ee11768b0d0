import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.data.dataset import SequenceRecord, draw_frames
from qvggt.data.sampling import FrameChoice, choose_frames, choose_sequences
from qvggt.types import QvggtError


def records(*counts: int) -> list[SequenceRecord]:
    return [SequenceRecord(f"scene{i}", tuple(f"{k}.jpg" for k in range(n))) for i, n in enumerate(counts)]


def test_rules():
    some = records(5, 7)
    assert choose_frames(some, FrameChoice("all"), 0) == {"scene0": (0, 1, 2, 3, 4), "scene1": (0, 1, 2, 3, 4, 5, 6)}
    assert choose_frames(some, FrameChoice("every", 3), 0) == {"scene0": (0, 3), "scene1": (0, 3, 6)}
    assert choose_frames(some, FrameChoice("random", 4), 9) == draw_frames(some, 4, 9)


@pytest.mark.parametrize("choice", [FrameChoice("all"), FrameChoice("every", 2), FrameChoice("random", 2)])
def test_an_id_map_decides(choice):
    assert choose_frames(records(5, 7), choice, 0, {"scene1": (6, 2), "elsewhere": (0,)}) == {"scene1": (6, 2)}


def test_choices_say_what_they_are():
    texts = [str(FrameChoice(rule, 10)) for rule in ("all", "random", "every")]
    assert texts == ["all frames in order", "10 frames drawn", "every 10th"]


@settings(max_examples=20, deadline=None)
@given(few=st.integers(1, 12), more=st.integers(0, 12), seed=st.integers(0, 1000))
def test_few_sequences_are_part_of_many_and_keep_their_order(few, more, seed):
    some = records(*[3] * 10)
    small, large = choose_sequences(some, few, seed), choose_sequences(some, few + more, seed)
    assert len(small) == min(few, 10)
    assert {record.name for record in small} <= {record.name for record in large}
    assert [record.name for record in large] == sorted(record.name for record in large)


def test_another_seed_chooses_other_sequences():
    some = records(*[3] * 50)
    assert choose_sequences(some, 5, 0) != choose_sequences(some, 5, 1)


def test_less_than_one_is_refused():
    with pytest.raises(QvggtError, match="at least 1, not 0"):
        FrameChoice("every", 0)
    with pytest.raises(QvggtError, match="number of scenes must be at least 1"):
        choose_sequences(records(3), 0, 0)
