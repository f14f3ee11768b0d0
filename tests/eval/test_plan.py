import json

import pytest

from qvggt.eval.plan import plan_evaluation
from qvggt.options import ImageOptions, Selection
from qvggt.types import QvggtError


def test_plan_evaluation_of_rooms_by_default():
    plan = plan_evaluation("rooms", None, (), Selection())
    assert [protocol.name for protocol in plan.protocols] == ["pose-standard", "depth-scale", "points-consistent"]
    assert (plan.reader.split, plan.landmarks, plan.choice) == ("test", 1.0, "all frames in order")
    assert len(plan.tasks) == 256
    assert all(task.frames == tuple(range(8)) for task in plan.tasks)


def test_plan_evaluation_follows_the_selection():
    plan = plan_evaluation("rooms", "wide", ("pose-vggt",), Selection(frames=3, seed=5, scenes=4, landmarks=0.0))
    assert [len(set(task.frames)) for task in plan.tasks] == [3] * 4
    assert plan.landmarks == 0.0
    everything = plan_evaluation("rooms", "wide", ("pose-vggt",), Selection(frames=3, seed=5))
    assert set(plan.tasks) <= set(everything.tasks)
    assert [task.frames for task in plan_evaluation("rooms", None, (), Selection(every=3, scenes=2)).tasks] == [
        (0, 3, 6)
    ] * 2


def test_plan_evaluation_writes_an_id_map_and_then_follows_it(tmp_path):
    path = tmp_path / "frames.json"
    first = plan_evaluation("rooms", "val", (), Selection(frames=4, seed=1, id_map=path))
    again = plan_evaluation("rooms", "val", (), Selection(frames=7, seed=2, id_map=path))
    assert again.tasks == first.tasks
    assert again.choice == f"as {path} says"
    stored = json.loads(path.read_text())
    assert stored["sequences"]["val/00000"] == first.tasks[0].frame_names
    with pytest.raises(QvggtError, match="no scene of rooms is in"):
        plan_evaluation("rooms", "test", (), Selection(id_map=path))


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
def test_plan_evaluation_refuses_what_cannot_be_evaluated(arguments, sentence):
    with pytest.raises(QvggtError, match=sentence):
        plan_evaluation(*arguments)


def test_plan_evaluation_makes_rooms_with_the_requested_frames():
    plan = plan_evaluation("rooms", None, (), Selection(frames=11, scenes=1))
    (task,) = plan.tasks
    assert sorted(task.frames) == list(range(11))
    assert plan.reader.load(task.record, task.frames, ImageOptions(28, 14)).images.shape == (11, 3, 28, 28)


def test_plan_evaluation_counts_a_protocol_named_twice_once():
    assert len(plan_evaluation("rooms", None, ("pose-standard", "pose-standard"), Selection()).protocols) == 1


def test_in_order_frames_follow_one_another_unless_a_file_says_their_order(tmp_path):
    drawn = plan_evaluation("rooms", "val", (), Selection(frames=6, seed=1, scenes=3))
    ordered = drawn.in_order()
    assert any(task.frames != tuple(sorted(task.frames)) for task in drawn.tasks)
    assert all(
        task.frames == tuple(sorted(other.frames)) for task, other in zip(ordered.tasks, drawn.tasks, strict=True)
    )
    assert ordered.choice == f"{drawn.choice}, in order"
    assert ordered.in_order() is ordered
    usual = plan_evaluation("rooms", "val", (), Selection())
    assert usual.in_order() is usual
    given = plan_evaluation("rooms", "val", (), Selection(frames=6, seed=1, id_map=tmp_path / "map.json"))
    assert given.in_order() is given
