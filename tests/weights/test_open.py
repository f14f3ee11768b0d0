import json
import logging

import pytest
import torch
from weight_writing import micro_state, write_safetensors, write_shards, write_torch

from qvggt.model import VGGTConfig
from qvggt.types import QvggtError
from qvggt.weights.open import EMBEDDED, load_float, open_weights

NAMES = [f"head.{n}" for n in range(14)]


def refusal(path):
    """The sentence with which a MODEL is refused."""
    with pytest.raises(QvggtError) as caught:
        open_weights(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def parameter(seed=0):
    return torch.nn.Parameter(torch.full((2,), float(seed)))


WRITERS = {
    "safetensors": lambda d: write_safetensors(d / "any name.safetensors"),
    "index": lambda d: write_shards(d),
    "pt": lambda d: write_torch(d / "weights.pt"),
    "pth": lambda d: write_torch(d / "weights.pth"),
    "old pt": lambda d: write_torch(d / "weights.pt", zipped=False),
    "model key": lambda d: write_torch(d / "weights.pt", {"model": micro_state(), "epoch": 3}),
    "state_dict key": lambda d: write_torch(d / "weights.pt", {"state_dict": micro_state()}),
    "parameters": lambda d: write_torch(d / "w.pt", {n: torch.nn.Parameter(t) for n, t in micro_state().items()}),
    "folder of safetensors": lambda d: write_safetensors(d / "model.safetensors").parent,
    "folder of shards": lambda d: write_shards(d).parent,
    "folder of pt": lambda d: write_torch(d / "model.pt").parent,
    "folder of one other file": lambda d: write_safetensors(d / "vggt-small.safetensors").parent,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_form_gives_the_weights_that_were_written(tmp_path, write, dtype):
    model = load_float(open_weights(write(tmp_path)), dtype=dtype)
    state, expected = model.state_dict(), micro_state()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name].to(dtype)) for name in expected)
    assert not model.training
    assert not any(p.requires_grad or p.is_meta for p in model.parameters())


def test_a_path_may_be_text_with_spaces_and_letters_of_any_kind(tmp_path):
    path = write_safetensors(tmp_path / "mein Modell é\n中" / "model.safetensors")
    assert open_weights(str(path)).config == VGGTConfig.micro()
    assert open_weights(path.parent).files == (path,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loads_and_runs(tmp_path, dtype):
    model = load_float(open_weights("seeded:micro"), dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    with torch.inference_mode():
        assert model(torch.rand(1, 1, 3, 28, 28, dtype=dtype))["depth"].dtype == dtype


@pytest.mark.parametrize("preset", ["nano", "micro"])
def test_seeded_presets(preset):
    weights = open_weights(f"seeded:{preset}")
    assert weights.config == getattr(VGGTConfig, preset)()
    assert weights.files == ()
    assert weights.hash() == f"seeded:{preset}"
    first, second = load_float(weights), load_float(weights)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_unknown_seeded_preset_names_the_known_ones():
    assert "choose seeded:vggt-1b, seeded:nano, seeded:micro" in refusal("seeded:vggt-2b")


def test_nano_opens_where_it_is_carried():
    assert open_weights("nano").config == VGGTConfig.nano()
    assert sum(path.stat().st_size for path in EMBEDDED["nano"]) <= 13_000_000


def test_configuration_comes_from_the_file_itself_or_from_beside_it(tmp_path):
    from safetensors.torch import save_file

    config = VGGTConfig.from_json(VGGTConfig.micro().to_json() | {"camera_heads": 4})
    inside, beside = tmp_path / "inside.safetensors", tmp_path / "beside"
    save_file(micro_state(), inside, {"config": json.dumps(config.to_json())})
    assert open_weights(inside).config == config
    write_safetensors(beside / "model.safetensors")
    (beside / "config.json").write_text(json.dumps({"vggt": config.to_json()}))
    assert open_weights(beside).config == config
    (beside / "config.json").write_text(json.dumps({"architectures": ["VGGT"]}))
    assert open_weights(beside).config == VGGTConfig.micro()


@pytest.mark.parametrize(
    "text", ["", "{", '{"vggt": 3}', '{"vggt": {}}', '{"vggt": {"depth": 4}}', "[" * 100_000, "\x00"]
)
def test_damaged_configuration_is_refused(tmp_path, text):
    write_safetensors(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    assert "the configuration of" in refusal(tmp_path)


def test_configuration_that_is_no_text_is_refused(tmp_path):
    write_safetensors(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    assert "the configuration of" in refusal(tmp_path)


def test_fingerprint_follows_the_bytes(tmp_path):
    one, same = write_safetensors(tmp_path / "a.safetensors"), write_safetensors(tmp_path / "b.safetensors")
    other = write_safetensors(
        tmp_path / "c.safetensors", micro_state() | {"aggregator.camera_token": torch.ones(1, 2, 1, 64)}
    )
    assert open_weights(one).hash() == open_weights(same).hash() != open_weights(other).hash()
    assert open_weights(one).hash().startswith("sha256:")


def test_track_head_is_left_out_with_one_line(tmp_path, caplog):
    state = micro_state() | {"track_head.a.weight": torch.ones(3), "track_head.b.weight": torch.ones(2)}
    path = write_safetensors(tmp_path / "model.safetensors", state)
    with caplog.at_level(logging.INFO, "qvggt"):
        model = load_float(open_weights(path))
    assert [record.getMessage() for record in caplog.records] == [
        "left out the track head (2 tensors): reconstruction does not use it"
    ]
    assert not any(name.startswith("track_head") for name in model.state_dict())


def test_nothing_is_logged_without_a_track_head(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "qvggt"):
        open_weights(write_safetensors(tmp_path / "model.safetensors"))
    assert not caplog.records


def test_missing_and_left_over_names_are_sorted_and_counted(tmp_path):
    state = micro_state()
    gone = sorted(state)[3:17]
    for name in gone:
        del state[name]
    state |= {name: torch.ones(1) for name in reversed(NAMES)}
    sentence = refusal(write_safetensors(tmp_path / "model.safetensors", state))
    assert f"14 tensors are missing ({', '.join(gone[:5])} and 9 more)" in sentence
    assert f"14 are unexpected ({', '.join(sorted(NAMES)[:5])} and 9 more)" in sentence


def test_one_missing_name_is_named_alone(tmp_path):
    state = micro_state()
    del state["camera_head.trunk_norm.weight"]
    sentence = refusal(write_torch(tmp_path / "model.pt", state))
    assert "1 tensors are missing (camera_head.trunk_norm.weight), 0 are unexpected" in sentence


def test_wrong_shapes_are_named_with_both_shapes(tmp_path):
    state = micro_state() | {"camera_head.trunk_norm.weight": torch.ones(3)}
    sentence = refusal(write_safetensors(tmp_path / "model.safetensors", state))
    assert "camera_head.trunk_norm.weight is [3] instead of [128]" in sentence


def test_many_wrong_shapes_are_counted(tmp_path):
    state = {name: torch.ones(1, *tensor.shape) for name, tensor in micro_state().items()}
    assert f"and {len(state) - 5} more" in refusal(write_safetensors(tmp_path / "model.safetensors", state))


@pytest.mark.parametrize("write", [write_safetensors, write_torch])
def test_another_models_checkpoint_is_told(tmp_path, write):
    path = tmp_path / ("model.safetensors" if write is write_safetensors else "model.pt")
    state = {"encoder.layers.0.weight": torch.ones(2, 2), "decoder.bias": torch.ones(2)}
    assert "another model than VGGT (it holds decoder.bias, encoder" in refusal(write(path, state))


@pytest.mark.parametrize(
    "model", ["missing.safetensors", "a/b.pt", "a/b.pth", "a/b.bin", "nanoo", "/no/such/folder", ""]
)
def test_what_is_not_there_is_not_found(model, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if model:
        sentence = refusal(model)
        assert f"model {model!r} not found" in sentence
        assert "facebook/VGGT-1B" in sentence
    else:
        assert "holds no weights" in refusal(model)


def test_folders_without_one_choice_are_refused(tmp_path):
    assert "holds no weights" in refusal(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    assert "holds no weights" in refusal(tmp_path)
    write_safetensors(tmp_path / "a.safetensors")
    write_safetensors(tmp_path / "b.safetensors")
    assert "several files of weights (a.safetensors, b.safetensors)" in refusal(tmp_path)


def test_a_symlink_loop_is_refused(tmp_path):
    loop = tmp_path / "model.safetensors"
    loop.symlink_to(loop)
    assert str(loop) in refusal(loop)


def test_a_name_that_is_too_long_is_refused():
    assert "x" * 300 in refusal("x" * 300)
