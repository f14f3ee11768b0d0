import json

import pytest

from qvggt.eval.plan import make_plan
from qvggt.options import ImageOptions, Selection
from qvggt.types import QvggtError


def test_rooms_by_default():
    plan = make_plan("rooms", None, (), Selection())
    assert [protocol.name for protocol in plan.protocols] == ["pose-standard", "depth-scale", "points-consistent"]
    assert (plan.reader.split, plan.landmarks, plan.choice) == ("test", 1.0, "all frames in order")
    assert len(plan.jobs) == 256
    assert all(job.frames == tuple(range(8)) for job in plan.jobs)


def test_selection():
    plan = make_plan("rooms", "wide", ("pose-vggt",), Selection(frames=3, seed=5, scenes=4, landmarks=0.0))
    assert [len(set(job.frames)) for job in plan.jobs] == [3] * 4
    assert plan.landmarks == 0.0
    everything = make_plan("rooms", "wide", ("pose-vggt",), Selection(frames=3, seed=5))
    assert set(plan.jobs) <= set(everything.jobs)
    assert [job.frames for job in make_plan("rooms", None, (), Selection(every=3, scenes=2)).jobs] == [(0, 3, 6)] * 2


def test_an_id_map_is_written_and_then_decides(tmp_path):
    path = tmp_path / "frames.json"
    first = make_plan("rooms", "val", (), Selection(frames=4, seed=1, id_map=path))
    again = make_plan("rooms", "val", (), Selection(frames=7, seed=2, id_map=path))
    assert again.jobs == first.jobs
    assert again.choice == f"as {path} says"
    stored = json.loads(path.read_text())
    assert stored["sequences"]["val/00000"] == first.jobs[0].frame_names
    with pytest.raises(QvggtError, match="no scene of rooms is in"):
        make_plan("rooms", "test", (), Selection(id_map=path))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("rooms", "calib", (), Selection()), "is for calibration"),
        (("rooms", "train", (), Selection(scenes=4)), "were trained on"),
        (("rooms", "nonsense", (), Selection()), "no split 'nonsense'"),
        (("nonsense", None, (), Selection()), "'nonsense' is not known"),
        (("co3d", None, (), Selection()), "--data-root"),
        (("rooms", None, ("pose",), Selection()), "there is no protocol 'pose': choose from pose-standard"),
        (("rooms", None, ("pose-standard", "pose-vggt"), Selection()), "evaluate them in two runs"),
        (("rooms", None, ("depth-scale", "depth-median-image"), Selection()), "evaluate them in two runs"),
        (("rooms", None, (), Selection(scenes=0)), "at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, sentence):
    with pytest.raises(QvggtError, match=sentence):
        make_plan(*arguments)


def test_rooms_are_as_long_as_they_are_asked_for():
    plan = make_plan("rooms", None, (), Selection(frames=11, scenes=1))
    (job,) = plan.jobs
    assert sorted(job.frames) == list(range(11))
    assert plan.reader.load(job.record, job.frames, ImageOptions(28, 14)).images.shape == (11, 3, 28, 28)


def test_a_protocol_named_twice_counts_once():
    assert len(make_plan("rooms", None, ("pose-standard", "pose-standard"), Selection()).protocols) == 1
