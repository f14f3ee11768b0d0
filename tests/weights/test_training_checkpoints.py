"""Weights as training loops, wrappers and hubs leave them."""

import json
import logging
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from weight_writing import micro_state, write_hub_cache, write_safetensors, write_shards, write_torch

import qvggt
from qvggt.checkpoint.open import open_float, open_model
from qvggt.types import QvggtError
from qvggt.weights.open import load_float, open_weights
from qvggt.weights.pretrained import sample_images
from qvggt.weights.verify import hub_hash


def prefixed(prefix):
    return {f"{prefix}{name}": tensor for name, tensor in micro_state().items()}


def compiled_inside():
    return {name.replace("aggregator.", "aggregator._orig_mod."): tensor for name, tensor in micro_state().items()}


WRAPPED = {
    "DDP": {"model": prefixed("module.")},
    "DDP of a compiled model": prefixed("module._orig_mod."),
    "torch.compile": prefixed("_orig_mod."),
    "torch.compile of a part": compiled_inside(),
    "Lightning": {"state_dict": {**prefixed("model."), "loss.weight": torch.ones(2)}, "epoch": 1},
    "model_state_dict": {"model_state_dict": micro_state(), "optimizer_state_dict": {"lr": 0.1}, "epoch": 1},
    "ema_state_dict": {"ema_state_dict": micro_state()},
    "averaged model": {"n_averaged": torch.tensor(3), **prefixed("module.")},
    "model beside its average": {**prefixed("model."), **{k: v + 1 for k, v in prefixed("model_ema.").items()}},
    "flat with counters": {**micro_state(), "epoch": 3, "best": 0.5},
    "track head": {**micro_state(), "track_head.x": torch.ones(2)},
}


@pytest.mark.parametrize("content", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("suffix", [".pt", ".ckpt"])
def test_wrappers_leave_the_weights_that_they_wrap(tmp_path, content, suffix):
    model = load_float(open_weights(write_torch(tmp_path / f"model{suffix}", content)))
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in micro_state().items())


def test_what_a_prefix_leaves_out_is_counted(tmp_path, caplog):
    path = write_torch(tmp_path / "model.ckpt", WRAPPED["Lightning"])
    with caplog.at_level(logging.INFO, "qvggt"):
        open_weights(path)
    assert "'model.'; left out 1 others" in caplog.text


def test_shards_of_bin_files_are_found_by_their_index(tmp_path):
    whole, weight_map = micro_state(), {}
    for part in range(2):
        file = f"pytorch_model-0000{part + 1}-of-00002.bin"
        state = {name: whole[name] for name in list(whole)[part::2]}
        write_torch(tmp_path / file, state)
        weight_map |= dict.fromkeys(state, file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    write_torch(tmp_path / "optimizer.bin", {"lr": torch.ones(1)})
    weights = open_weights(tmp_path)
    assert [path.name for path in weights.files] == sorted(set(weight_map.values()))
    assert all(torch.equal(tensor, weights.source.tensor(name)) for name, tensor in whole.items())


def without(part):
    return {name: tensor for name, tensor in micro_state().items() if part not in name}


def test_the_mask_token_is_not_missed(tmp_path):
    weights = open_float(write_safetensors(tmp_path / "model.safetensors", without("mask_token")))
    expected, found = qvggt.load("seeded:micro"), weights.load()
    images = torch.rand(1, 2, 3, 28, 28)
    assert torch.equal(found(images)["pose_enc"], expected(images)["pose_enc"])


def test_weights_without_a_point_head_reconstruct_from_depth(tmp_path, caplog):
    path = write_safetensors(tmp_path / "model.safetensors", without("point_head"))
    with caplog.at_level(logging.WARNING, "qvggt"):
        model = qvggt.load(path)
    assert "no point head" in caplog.text
    assert model.heads == ("camera", "depth")
    photos = sample_images()[:2]
    found, expected = (qvggt.reconstruct(one, photos).world_points for one in (model, "seeded:micro"))
    assert found is not None
    assert (found == expected).all()
    with pytest.raises(QvggtError, match="no point head"):
        qvggt.reconstruct(model, photos, points_from="head")
    with pytest.raises(QvggtError, match="no point head"):
        qvggt.quantize(path)
    for verb in (qvggt.quantize, qvggt.sensitivity):
        with pytest.raises(QvggtError, match="only the heads camera, depth"):
            verb(model)
    opened = open_model(path)
    assert opened.parameters == sum(tensor.numel() for tensor in without("point_head").values())


def test_an_adapter_is_named_as_one(tmp_path):
    state = {"base_model.model.aggregator.frame_blocks.0.attn.qkv.lora_A.weight": torch.ones(2, 2)}
    with pytest.raises(QvggtError, match=r"LoRA adapter.*merge"):
        open_weights(write_safetensors(tmp_path / "adapter_model.safetensors", state).parent)


def test_an_absurd_depth_is_refused_before_anything_is_built(tmp_path, monkeypatch):
    config = {**qvggt.load("seeded:micro").config.to_json(), "depth": 2000}
    save_file(micro_state(), tmp_path / "model.safetensors", {"config": json.dumps(config)})
    monkeypatch.setattr("qvggt.model.vggt.VGGT.__init__", None)
    with pytest.raises(QvggtError, match=r"4 blocks.*2000"):
        open_weights(tmp_path)


def flip_last_tensor_byte(path):
    with zipfile.ZipFile(path) as archive:
        info = max(archive.infolist(), key=lambda item: item.file_size)
    data = bytearray(path.read_bytes())
    data[info.header_offset + len(info.filename) + 30 + info.file_size // 2] ^= 1
    path.write_bytes(data)


def test_a_pt_file_is_verified_by_its_checksums(tmp_path):
    path = write_torch(tmp_path / "model.pt")
    weights = open_weights(path)
    assert weights.verify() == len(micro_state())
    flip_last_tensor_byte(path)
    with pytest.raises(QvggtError, match=r"damaged.*checksum"):
        open_weights(path).verify()


def test_a_file_from_the_hub_is_verified_by_the_hubs_hash(tmp_path):
    import hashlib

    snapshot = write_hub_cache(tmp_path, "org/name", "a" * 40)
    content = write_safetensors(tmp_path / "x.safetensors").read_bytes()
    blob = snapshot.parents[1] / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(content)
    path = snapshot / "model.safetensors"
    path.symlink_to(blob)
    assert hub_hash(path) == blob.name
    assert open_weights(snapshot).verify() == len(micro_state())
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(QvggtError, match="not the hub's"):
        open_weights(snapshot).verify()


def test_files_without_checksums_are_not_called_verified(tmp_path):
    assert open_weights(write_safetensors(tmp_path / "model.safetensors")).verify() == 0
    assert open_weights(write_shards(tmp_path / "shards")).verify() == 0
    assert open_weights("seeded:micro").verify() == 0
