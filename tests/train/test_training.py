import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from qvggt import geometry
from qvggt.data.rooms.family import render_rooms
from qvggt.geometry import normalized_truth
from qvggt.model import VGGT, VGGTConfig
from qvggt.plots.training import plot_log
from qvggt.train.loop import train
from qvggt.train.losses import direction_loss, placement_loss, pose_loss
from qvggt.train.optim import initialize, split_parameters
from qvggt.train.recipe import Phase, TrainRecipe, load_recipe, parse_recipe, recipe_json
from qvggt.train.reserve import reserved_units
from qvggt.train.step import render_step
from qvggt.types import QvggtError
from qvggt.weights.open import open_weights

TINY = TrainRecipe("micro", (Phase(2, 28, 6, (2, 3)), Phase(4, 56, 4, (2,), aspects=(0.75,))), validate_steps=100)


def test_carried_recipes_can_be_read_and_written():
    for name in ("nano-1", "nano-2", "nano-3", "nano-4", "nano-5", "micro"):
        recipe = load_recipe(name)
        assert parse_recipe(json.loads(json.dumps(recipe_json(recipe)))) == recipe


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": "nano", "phases": []}', '{"model": "x", "phases": [1]}'])
def test_what_is_no_recipe_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(QvggtError, match="training recipe"):
        load_recipe(tmp_path / "r.json")
    with pytest.raises(QvggtError, match="training recipe is missing"):
        load_recipe("absent")


@pytest.mark.parametrize(
    ("place", "values", "says"),
    [
        ("recipe", {"shards": 0}, "shards must be at least 1"),
        ("recipe", {"validate_steps": 0}, "validate_steps must be at least 1"),
        ("recipe", {"matching_layers": [99]}, "matching_layers must be from 0 to"),
        ("phase", {"steps": 0}, "steps must be at least 1"),
        ("phase", {"frames": [2, 0]}, "frames must be at least 1"),
        ("phase", {"frames": []}, "frames must not be empty"),
        ("phase", {"landmarks": [1.0]}, "landmarks must be two numbers"),
    ],
)
def test_what_is_out_of_range_is_refused(tmp_path, place, values, says):
    recipe = json.loads(json.dumps(recipe_json(TINY)))
    (recipe if place == "recipe" else recipe["phases"][0]).update(values)
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    with pytest.raises(QvggtError, match=says):
        load_recipe(tmp_path / "r.json")


def test_the_rate_rises_stays_and_falls():
    recipe = TrainRecipe("micro", (Phase(1000, 56, 8),), warmup_steps=100, cooldown_steps=200)
    rates = [recipe.rate_at(step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert set(rates[99:800]) == {1.0}
    assert np.all(np.diff(rates[800:]) < 0)
    assert rates[1000] == 0


def test_phases_follow_one_another():
    assert [TINY.phase_at(step).image_px for step in range(7)] == [28, 28, 56, 56, 56, 56, 56]
    assert Phase(1, 84, 8).height_px(0.67, 14) == 56


def test_steps_have_their_own_rooms():
    first, again, second = (render_step(TINY, step, "cpu")[0] for step in (2, 2, 3))
    assert torch.equal(first.images, again.images)
    assert first.images.shape == (2, 2, 3, 42, 56)
    assert not torch.equal(first.images, second.images)


def test_truth_is_in_the_first_cameras_frame_and_of_unit_size():
    rooms = render_rooms([5, 6], 3, (56, 56))
    truth = normalized_truth(rooms.cam_from_world, rooms.intrinsics, rooms.depth, rooms.valid)
    torch.testing.assert_close(truth.points.norm(dim=-1).flatten(1).mean(1), torch.ones(2))
    torch.testing.assert_close(truth.pose_enc[:, 0, :7], torch.tensor([[0, 0, 0, 0, 0, 0, 1.0]] * 2), atol=1e-5, rtol=0)
    cameras, intrinsics = geometry.pose_encoding_to_cameras(truth.pose_enc, (56, 56))
    torch.testing.assert_close(geometry.unproject(truth.depth, intrinsics, cameras), truth.points, atol=1e-4, rtol=1e-4)


def test_losses_vanish_at_the_truth_only():
    rooms = render_rooms([5], 3, (28, 28))
    truth = normalized_truth(rooms.cam_from_world, rooms.intrinsics, rooms.depth, rooms.valid)
    pose, valid = truth.pose_enc, truth.valid[0].float()
    assert float(placement_loss(truth.depth[0], pose[0], truth.points[0], valid)) == pytest.approx(0, abs=1e-4)
    assert float(pose_loss(pose.expand(4, -1, -1, -1), pose)) == 0
    assert float(direction_loss(pose, pose, floor=1e-6)) == pytest.approx(0, abs=1e-4)
    moved = pose + torch.randn(pose.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    assert float(pose_loss(moved.expand(4, -1, -1, -1), pose)) > 0.01
    assert float(direction_loss(moved, pose)) > 0.1
    assert float(placement_loss(truth.depth[0], moved[0], truth.points[0], valid)) > 0.05


def test_special_tokens_start_outlying_and_some_units_stay_unused():
    model = VGGT(VGGTConfig.micro())
    initialize(model, seed=3, camera_norm=4.0, register_norm=9.0)
    for token, ratio in ((model.aggregator.camera_token, 4), (model.aggregator.register_token, 9)):
        assert float(token.detach().norm(dim=-1).mean()) == pytest.approx(ratio * 64**0.5, rel=0.15)
    again = VGGT(VGGTConfig.micro())
    initialize(again, 3, 4.0, 9.0)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_norms_tokens_and_scales_have_no_weight_decay():
    model = VGGT(VGGTConfig.micro())
    muon, decayed, plain = split_parameters(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)].rsplit(".", 1)[-1] for p in (*muon, *decayed)} == {"weight"}
    assert all("norm" not in names[id(p)] for p in (*muon, *decayed))
    assert len(muon) + len(decayed) + len(plain) == len(names) - 1  # the mask token is not trained


def test_an_interrupted_run_goes_on_to_the_bit(tmp_path):
    whole = load_file(train(TINY, tmp_path / "whole"))
    train(TINY, tmp_path / "parts", minutes=0)

    def stop(step):
        def advance(self, renderer):
            if self.step == step:
                raise KeyboardInterrupt
            original(self, renderer)

        return advance

    from qvggt.train.loop import Run

    original = Run.advance
    for step in (1, 4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "advance", stop(step))
            with pytest.raises(KeyboardInterrupt):
                train(TINY, tmp_path / "parts")
    parts = load_file(train(TINY, tmp_path / "parts"))
    assert whole.keys() == parts.keys()
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("whole", "parts")]
    assert [json.loads(line)["step"] for line in logs[0]] == [json.loads(line)["step"] for line in logs[1]]
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    fc2 = parts["aggregator.global_blocks.0.mlp.fc2.weight"]
    assert not fc2[:, reserved_units(fc2.shape[1])].any()


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    train(TINY, tmp_path, minutes=0)
    with pytest.raises(QvggtError, match="belongs to another recipe"):
        train(dataclasses.replace(TINY, seed=1), tmp_path)


def test_weights_can_be_carried_on_from(tmp_path):
    first = train(TINY, tmp_path / "a", minutes=0)
    path = train(dataclasses.replace(TINY, seed=9), tmp_path / "b", start_from=open_weights(first), minutes=0)
    weights = load_file(first)
    for name, tensor in load_file(path).items():
        torch.testing.assert_close(tensor, weights[name])
    with pytest.raises(QvggtError, match="cannot begin"):
        train(TINY, tmp_path / "c", start_from=open_weights("nano"), minutes=0)


def test_a_damaged_checkpoint_and_a_folder_that_is_a_file_are_refused(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK" + b"x" * 100)
    with pytest.raises(QvggtError, match="is damaged"):
        train(TINY, tmp_path)
    with pytest.raises(QvggtError, match="is a file"):
        train(TINY, tmp_path / "checkpoint.pt")


def test_a_checkpoint_with_a_flipped_bit_and_a_damaged_log_are_refused(tmp_path):
    train(TINY, tmp_path, minutes=0)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(QvggtError, match="is damaged"):
        train(TINY, tmp_path, minutes=0)
    path.write_bytes(whole)
    for line in ("[" * 100_000, "[]", '{"images": 1}', "{"):
        (tmp_path / "log.jsonl").write_text(line + "\n")
        with pytest.raises(QvggtError, match=r"log\.jsonl is damaged"):
            train(TINY, tmp_path, minutes=0)


def test_a_disk_that_is_too_full_is_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    with pytest.raises(QvggtError, match="the disk is full"):
        train(TINY, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_curve_is_drawn(tmp_path):
    lines = [
        {"step": 1, "images": 10, "loss_total": 1.0}
        | {f"loss_{n}": 0.5 for n in ("pose", "direction", "depth", "points")}
    ]
    lines += [{"step": 1, "images": 10, "auc30": 5.0, "auc5": 0.1, "absrel": 0.3}]
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert plot_log(tmp_path / "log.jsonl", tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(QvggtError, match="no training log"):
        plot_log(tmp_path / "absent", tmp_path / "d.png")


@pytest.mark.slow
def test_micro_learns_from_nothing(tmp_path):
    train(load_recipe("micro"), tmp_path)
    checks = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines() if "auc30" in line]
    assert checks[-1]["auc30"] > 15  # chance is about 2
    assert checks[-1]["absrel"] < 0.2  # a constant gives about 0.4
