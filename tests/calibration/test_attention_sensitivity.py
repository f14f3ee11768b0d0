"""What global blocks lose with less attention, and plans made of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from qvggt.api.sensitivity import attention_sensitivity
from qvggt.calibration.attention_sensitivity import AttentionReport, AttentionRow, SceneSize, measure_attention
from qvggt.calibration.data import SceneBatch
from qvggt.calibration.objective import TaskLoss
from qvggt.calibration.task import make_task
from qvggt.methods.plan_attention import plan_attention
from qvggt.model import VGGT, VGGTConfig
from qvggt.options import AttentionOptions, CalibrationOptions, products_share
from qvggt.types import AttentionPlan, BlockAttention, PlanLevel, QvggtError

FRAME, POOLED, COARSE = (BlockAttention.parse(text) for text in ("frame", "pooled 2", "pooled 4"))
SIZE = SceneSize(8, 5, (6, 6))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = VGGT(VGGTConfig.micro()).eval()
    for name, parameter in model.named_parameters():
        if "token" in name:
            torch.nn.init.normal_(parameter)
    return model


def scenes(frames=3, height=28):
    return SceneBatch(torch.rand(2, frames, 3, height, 42, generator=torch.Generator().manual_seed(1)))


def loss(value):
    return TaskLoss(value, 0.0, 0.0, 0.0)


def report(*totals, baseline=None):
    rows = [
        AttentionRow(block, attention, loss(total), loss(total), total=total)
        for block, values in enumerate(totals)
        for attention, total in zip((FRAME, COARSE, POOLED), values, strict=True)
    ]
    return AttentionReport(SIZE, len(totals), baseline or loss(0.0), tuple(rows))


def test_measure_attention__each_row_is_the_loss_of_the_whole_model_with_one_block_changed(model):
    task = make_task(model, [scenes()], "teacher")
    measured = measure_attention(model, task, (FRAME, POOLED))
    assert [(row.block, row.attention) for row in measured.rows] == [(b, a) for b in range(4) for a in (FRAME, POOLED)]
    assert model.aggregator.global_attention == "exact"
    for row in measured.rows:
        blocks = [BlockAttention()] * 4
        blocks[row.block] = row.attention
        model.aggregator.global_attention = AttentionPlan((PlanLevel(1, tuple(blocks)),))
        expected = task.loss(model)
        model.aggregator.global_attention = "exact"
        assert row.loss.total == pytest.approx(expected.total, rel=1e-4)
        assert row.total == pytest.approx(expected.total - measured.baseline.total, abs=1e-5)
        assert row.increase.camera > 0
    assert measured.size == SceneSize(3, 5, (2, 3))


def test_measure_attention__refuses_scenes_of_one_frame_and_of_several_sizes(model):
    with pytest.raises(QvggtError, match=r"at least 2 frames.*--calib-frames"):
        measure_attention(model, make_task(model, [scenes(frames=1)], "teacher"), (FRAME,))
    with pytest.raises(QvggtError, match="one size"):
        measure_attention(model, make_task(model, [scenes(), scenes(height=42)], "teacher"), (FRAME,))


def test_report__survives_json():
    made = report((0.3, float("inf"), 0.1))
    assert AttentionReport.from_json(json.loads(json.dumps(made.to_json()))) == made
    for values, words in (({}, "version None"), ({"version": 1}, "damaged"), ([], "version None")):
        with pytest.raises(QvggtError, match=words):
            AttentionReport.from_json(values)


def test_plan_attention__spends_products_where_they_matter_most():
    made = report((0.1, 0.05, 0.01), (9.0, 9.0, 9.0))
    planned = plan_attention(made, AttentionOptions(max_share=0.6))
    assert list(map(str, planned.plan.levels[0].blocks)) == ["frame", "exact"]
    assert planned.plan.levels[0].min_frames == 8
    assert planned.products_share == pytest.approx(products_share(planned.plan, 8, 5, (6, 6)))
    assert planned.predicted_increase == pytest.approx(0.1)
    looser = plan_attention(made, AttentionOptions(max_share=0.8, min_frames=3))
    assert list(map(str, looser.plan.levels[0].blocks)) == ["pooled 2", "exact"]
    assert looser.plan.levels[0].min_frames == 3


def test_plan_attention__within_a_loss_it_has_the_fewest_products():
    made = report((0.3, 0.2, 0.1), (0.3, 0.2, 0.1), (5.0, 5.0, 5.0))
    for most, pooled in ((0.0, 0), (0.1, 1), (0.15, 2)):
        planned = plan_attention(made, AttentionOptions(max_loss=most))
        assert sorted(map(str, planned.plan.levels[0].blocks)) == ["exact"] * (3 - pooled) + ["pooled 2"] * pooled
        assert planned.predicted_increase <= most + 1e-9
    assert plan_attention(made, AttentionOptions(max_loss=0.43)).additivity == "squares"


def test_plan_attention__errors_of_one_part_of_the_objective_add_up_less_than_those_of_two():
    depth, points = (lambda value: TaskLoss(0.0, value, 0.0, 0.0)), (lambda value: TaskLoss(0.0, 0.0, value, 0.0))
    parts = (depth(0.3), depth(0.25), points(0.28))
    rows = tuple(AttentionRow(block, FRAME, part, part, total=part.total) for block, part in enumerate(parts))
    measured = AttentionReport(SIZE, 3, loss(0.0), rows)
    spared = 1 - SIZE.products(FRAME) / SIZE.products()
    planned = plan_attention(measured, AttentionOptions(max_share=1 - 1.9 * spared / 3))  # two blocks give up attention
    assert list(map(str, planned.plan.levels[0].blocks)) == ["frame", "frame", "exact"]
    assert planned.predicted_increase == pytest.approx(np.hypot(0.3, 0.25))
    assert plan_attention(measured, AttentionOptions(max_loss=0.4)) == planned
    few = plan_attention(measured, AttentionOptions(max_loss=0.3))
    assert sorted(map(str, few.plan.levels[0].blocks)) == ["exact", "exact", "frame"]


def test_plan_attention__against_truth_increases_add_up_themselves():
    made = report((0.3, 0.2, 0.1), (0.3, 0.2, 0.1), baseline=TaskLoss(0.1, 0.5, 0.5, 0.0))
    planned = plan_attention(made, AttentionOptions(max_loss=0.15))
    assert planned.additivity == "sum"
    assert planned.predicted_increase == pytest.approx(0.1)


def test_plan_attention__a_cheaper_choice_never_counts_as_better_and_infinity_is_never_chosen():
    made = report((float("inf"), -1.0, 0.2))
    planned = plan_attention(made, AttentionOptions(max_loss=0.1))
    assert planned.plan.levels[0].blocks == (BlockAttention(),)
    assert plan_attention(made, AttentionOptions(max_loss=0.2)).plan.levels[0].blocks == (COARSE,)


def test_plan_attention__says_what_is_possible():
    with pytest.raises(QvggtError, match=r"0\.01 of the attention products: allow at least 0\.125"):
        plan_attention(report((0.3, 0.2, 0.1)), AttentionOptions(max_share=0.01))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"choices": ()}, "other than exact"),
        ({"choices": ("exact",)}, "other than exact"),
        ({"choices": ("fast",)}, "fast"),
        ({"max_loss": 1.0, "max_share": 0.5}, "two targets"),
        ({"max_loss": -1.0}, "at least 0"),
        ({"max_share": 0.0}, "above 0"),
        ({"min_frames": 0}, "at least 1"),
    ],
)
def test_attention_options__refuse_impossible_values(values, words):
    with pytest.raises(QvggtError, match=words):
        replace(AttentionOptions(), **values)


@pytest.mark.render
def test_attention_sensitivity__rooms_may_be_longer_than_those_of_their_split():
    options = AttentionOptions(choices=("sampled 6",), max_share=1.0)
    measured, planned = attention_sensitivity("nano", options, CalibrationOptions(scenes=2, frames=9))
    assert (measured.size.frames, len(measured.rows)) == (9, 9)
    assert planned.plan.levels[0].min_frames == 9
