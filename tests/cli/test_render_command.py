"""``qvggt render``: rooms as files."""

import json

import pytest


@pytest.mark.render
def test_rooms_are_rendered_and_a_second_run_keeps_them(qvggt, tmp_path):
    arguments = ("render", "rooms", "-o", tmp_path / "out", "--split", "wide", "--scenes", "2", "--frames", "2")
    done = qvggt(*arguments, "--size", "56", "42", "--landmarks", "0.5", "--path", "orbit")
    assert (done.status, done.err) == (0, "")
    assert "2 scenes of 2 frames rendered" in done.out
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert (index["height_px"], index["width_px"]) == (42, 56)
    assert (index["family"]["landmarks"], index["family"]["path"], index["family"]["baseline"]) == (0.5, "orbit", 2.0)
    assert (tmp_path / "out" / "wide-00001" / "images" / "001.png").is_file()
    figures = tmp_path / "figures.json"
    again = qvggt(*arguments, "--size", "56", "42", "--landmarks", "0.5", "--path", "orbit", "--json", figures)
    assert json.loads(figures.read_text()).items() >= {"rendered_scenes": 0, "kept_scenes": 2, "frames": 2}.items()
    assert "0 scenes of 2 frames rendered" in again.out
    assert "2 existed" in again.out
    assert "other options" in qvggt(*arguments, "--size", "56").sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--split", "tset"), "choose one of"),
        (("--size", "56", "56", "56"), "width and height"),
        (("--scenes", "100000"), "at most"),
        (("--baseline", "-1"), "from 0 to 10"),
        (("--landmarks", "2"), "0..1"),
        (("--frames", "0"), "1 to 1000 frames"),
        (("--split", "train"), "too many"),
        (("--seed", "-5"), "seed must lie"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(qvggt, tmp_path, arguments, words):
    assert words in qvggt("render", "rooms", "-o", tmp_path / "out", *arguments).sentence
    assert not (tmp_path / "out").exists()
