"""Attention plans by name, by file, and in a checkpoint."""

import json

import pytest

import qvggt
from qvggt.api.quantize import quantize_to
from qvggt.checkpoint.open import open_model
from qvggt.options import (
    ATTENTION_PRESETS,
    LoadOptions,
    QuantizeOptions,
    RunOptions,
    attention_json,
    attention_of,
    attention_products,
    products_share,
)
from qvggt.quant.recipe import Recipe
from qvggt.types import AttentionPlan, BlockAttention, PlanLevel, QvggtError


def plan(*blocks: str, min_frames: int = 2) -> AttentionPlan:
    return AttentionPlan((PlanLevel(min_frames, tuple(map(BlockAttention.parse, blocks))),))


NANO = plan("exact", "exact", "pooled 2", "frame", "pooled 2", "pooled 3", "exact", "exact", "frame")


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planned") / "nano-4bit"
    quantize_to("nano", folder, options=QuantizeOptions(attention_plan=NANO))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "nano-4bit"
    quantize_to("nano", folder)
    return folder


def test_load__takes_a_plan_a_file_or_a_preset(tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(NANO.to_json()))
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"version": 1, "rows": [], "plan": NANO.to_json()}))
    for value in (NANO, file, str(file), report):
        assert qvggt.load("nano", global_attention=value).aggregator.global_attention == NANO
        assert attention_json(value) == NANO.to_json()


def test_load__auto_is_the_plan_that_a_checkpoint_states_or_else_exact(planned, plain):
    assert LoadOptions.global_attention == RunOptions.global_attention == "auto"
    assert qvggt.load(planned).aggregator.global_attention == NANO
    assert qvggt.load(planned, global_attention="exact").aggregator.global_attention == "exact"
    assert qvggt.load(plain).aggregator.global_attention == "exact"
    assert qvggt.load("nano").aggregator.global_attention == "exact"


def test_load__refuses_a_plan_for_another_depth():
    with pytest.raises(QvggtError, match=r"24 global blocks, but the model has 9.*sensitivity --attention"):
        qvggt.load("nano", global_attention="vggt-1b")


def test_load__refuses_damaged_files(tmp_path):
    file = tmp_path / "plan.json"
    for text, words in (("", "empty"), ("[]", "JSON object"), ("{}", "version None"), ('{"plan": 3}', "version None")):
        file.write_text(text)
        with pytest.raises(QvggtError, match=words):
            qvggt.load("nano", global_attention=file)


def test_quantize__a_plan_stands_in_the_recipe_and_changes_nothing_else(planned, plain):
    with_plan, without = (json.loads((folder / "recipe.json").read_text()) for folder in (planned, plain))
    assert with_plan.pop("attention_plan") == NANO.to_json()
    assert "attention_plan" not in without
    for values in (with_plan, without):
        del values["hash"]
    assert with_plan == without
    for name in ("config.json", "model.safetensors"):
        assert (planned / name).read_bytes() == (plain / name).read_bytes()
    assert open_model(planned).hash() != open_model(plain).hash()


def test_save__keeps_the_plan(planned, tmp_path):
    qvggt.save(qvggt.load(planned), tmp_path / "again")
    assert (tmp_path / "again" / "recipe.json").read_bytes() == (planned / "recipe.json").read_bytes()


def test_quantize__in_memory_runs_with_the_plan():
    model = qvggt.quantize("nano", options=QuantizeOptions(attention_plan=NANO))
    assert model.recipe.attention == model.aggregator.global_attention == NANO
    assert Recipe.from_json(model.recipe.to_json()) == model.recipe


def test_quantize__refuses_what_is_no_plan_for_the_model(tmp_path):
    with pytest.raises(QvggtError, match="24 global blocks"):
        quantize_to("nano", tmp_path / "out", options=QuantizeOptions(attention_plan="vggt-1b"))
    with pytest.raises(QvggtError, match=r"expected an attention plan, got 'merged'"):
        QuantizeOptions(attention_plan="merged")
    assert not (tmp_path / "out").exists()


def test_options_json__names_a_plan_only_if_there_is_one():
    assert "attention_plan" not in QuantizeOptions().to_json()
    assert QuantizeOptions(attention_plan=NANO).to_json()["attention_plan"] == NANO.to_json()


def test_attention_of__presets_fit_their_models():
    assert attention_of("vggt-1b") == ATTENTION_PRESETS["vggt-1b"]
    assert ATTENTION_PRESETS["vggt-1b"].depth == 24
    assert qvggt.load("nano", global_attention="nano").aggregator.global_attention == ATTENTION_PRESETS["nano"]
    few, many = (ATTENTION_PRESETS["vggt-1b"].at(frames) for frames in (10, 300))
    assert list(map(str, few)) == ["frame"] * 9 + ["exact"] * 15
    assert list(map(str, many)) == ["frame"] * 9 + ["sampled 2"] * 11 + ["exact"] * 4


@pytest.mark.parametrize(
    ("text", "frames", "expected"),
    [
        ("exact", 1, 41**2),
        ("exact", 30, (30 * 41) ** 2),
        ("frame", 30, 30 * 41**2),
        ("pooled 2", 1, 41**2),
        ("pooled 2", 2, 82 * (41 + 5 + 9 + 1) + 36),
        ("pooled 4", 3, 123 * (41 + 2 * (5 + 4) + 1) + 72),
    ],
)
def test_attention_products__count_the_pairs_of_queries_and_keys(text, frames, expected):
    assert attention_products(BlockAttention.parse(text), frames, special=5, grid=(6, 6)) == expected


def test_products_share__is_that_of_the_level_that_applies():
    chosen = plan("frame", "exact", min_frames=4)
    assert products_share(chosen, 3, 5, (6, 6)) == 1.0
    assert products_share(chosen, 4, 5, (6, 6)) == pytest.approx((0.25 + 1) / 2)
