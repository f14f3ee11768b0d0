import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.data.dataset import SequenceRecord, chosen_frames, draw_frames, load_id_map, save_id_map
from qvggt.types import QvggtError


def records(*counts: int) -> list[SequenceRecord]:
    return [SequenceRecord(f"scene{i}", tuple(f"{k}.jpg" for k in range(n))) for i, n in enumerate(counts)]


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(5, 40), min_size=1, max_size=5), seed=st.integers(0, 10**6))
def test_draw_is_without_replacement_and_in_range(counts, seed):
    for record, (name, indices) in zip(records(*counts), draw_frames(records(*counts), 5, seed).items(), strict=True):
        assert name == record.name
        assert len(set(indices)) == 5
        assert set(indices) <= set(range(len(record.frames)))


def test_draw_of_a_sequence_does_not_depend_on_the_others():
    everything = draw_frames(records(30, 40, 50), 10, seed=3)
    assert draw_frames(records(30, 40, 50)[::-1][:2], 10, seed=3) == {
        name: everything[name] for name in ("scene2", "scene1")
    }


def test_draw_is_the_same_on_every_machine():
    # Checked with sha256sum on "seed\nsequence\nframe" of each frame.
    assert draw_frames(records(20), 4, seed=0) == {"scene0": (9, 10, 8, 6)}


def test_seed_and_name_change_the_draw():
    first = draw_frames(records(50, 50), 10, seed=0)
    assert first["scene0"] != first["scene1"]
    assert first["scene0"] != draw_frames(records(50), 10, seed=1)["scene0"]


def test_every_frame_is_drawn_about_equally_often():
    counts = [0] * 10
    for seed in range(400):
        for index in draw_frames(records(10), 3, seed)["scene0"]:
            counts[index] += 1
    assert min(counts) > 80
    assert max(counts) < 160


def test_short_sequences_are_left_out_and_counted(caplog):
    with caplog.at_level(logging.WARNING):
        assert set(draw_frames(records(3, 10), 10, seed=0)) == {"scene1"}
    assert "1 of 2 sequences" in caplog.text


def test_no_frame_to_draw_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        draw_frames(records(3), 0, seed=0)


def test_given_id_map_decides():
    assert draw_frames(records(30, 30), 10, seed=5, id_map={"scene1": (4, 2), "gone": (1,)}) == {"scene1": (4, 2)}


def test_saved_id_map_comes_back_and_follows_names(tmp_path):
    path = tmp_path / "ids.json"
    drawn = draw_frames(records(30, 30), 6, seed=1)
    save_id_map(path, drawn, records(30, 30))
    assert load_id_map(path, records(30, 30)) == drawn
    fewer = [SequenceRecord("scene1", tuple(sorted({f"{i}.jpg" for i in drawn["scene1"]})))]
    found = load_id_map(path, fewer)
    assert [fewer[0].frames[i] for i in found["scene1"]] == [f"{i}.jpg" for i in drawn["scene1"]]
    assert [entry.name for entry in tmp_path.iterdir()] == ["ids.json"]


def test_id_map_with_a_frame_that_is_missing_is_an_error(tmp_path):
    path = tmp_path / "ids.json"
    save_id_map(path, {"scene0": (7,)}, records(10))
    with pytest.raises(QvggtError, match=r"frame 7\.jpg of sequence scene0"):
        load_id_map(path, records(5))


def test_id_map_of_unknown_sequences_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="scene9"):
        save_id_map(tmp_path / "ids.json", {"scene9": (0,)}, records(1))


@pytest.mark.parametrize("content", ["", "{}", '{"sequences": []}', json.dumps({"sequences": {"scene0": 3}})])
def test_what_is_no_id_map_is_an_error(tmp_path, content):
    path = tmp_path / "ids.json"
    path.write_text(content)
    with pytest.raises(QvggtError, match=r"id map .* is damaged"):
        load_id_map(path, records(1))


def test_missing_id_map_is_an_error(tmp_path):
    with pytest.raises(QvggtError, match="id map is missing"):
        load_id_map(tmp_path / "ids.json", records(1))


def test_chosen_frames_names_them_and_refuses_others():
    record = records(3)[0]
    assert chosen_frames(record, (2, 0)) == ["2.jpg", "0.jpg"]
    with pytest.raises(QvggtError, match="frame 3 of sequence scene0"):
        chosen_frames(record, (0, 3))
    with pytest.raises(QvggtError, match="frame -1"):
        chosen_frames(record, (-1,))
    with pytest.raises(QvggtError, match="at least one"):
        chosen_frames(record, ())
