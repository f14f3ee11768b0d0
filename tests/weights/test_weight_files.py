import contextlib
import json
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from weight_writing import micro_state, write_safetensors, write_shards, write_torch

from qvggt.types import QvggtError
from qvggt.weights.files import SafetensorsSource, TorchSource, hash_files, open_weight_file
from qvggt.weights.open import open_weights

some = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SUFFIXES = [".safetensors", ".pt"]

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


class RunsCode:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


class Unknown:
    pass


def refusal(path):
    with pytest.raises(QvggtError) as caught:
        open_weight_file(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert repr(str(path))[1:-1] in sentence
    return sentence


def write(path, state=None):
    return (write_torch if path.suffix == ".pt" else write_safetensors)(path, state)


@pytest.fixture(scope="module", params=[*SUFFIXES, "old.pt"])
def whole(request, tmp_path_factory):
    """Return the bytes of a small file, and how such a file's name ends."""
    path = tmp_path_factory.mktemp("whole") / f"whole{request.param}"
    state = {"first": torch.arange(300.0), "second": torch.ones(2, 3)}
    if request.param == "old.pt":
        write_torch(path, state, zipped=False)
    else:
        write(path, state)
    return path.read_bytes(), path.suffix


@some
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused_in_a_sentence(whole, tmp_path, data):
    content, suffix = whole
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    # In the old format, which is all pickle, a cut can leave the beginning of a name, which is then an unknown one.
    signs = ("truncated", "damaged", "wants to run code") if content.startswith(b"\x80") else ("truncated",)
    assert any(sign in refusal(path) for sign in signs)


@some
@given(data=st.data())
def test_a_file_with_wrong_bytes_raises_nothing_but_our_error(whole, tmp_path, data):
    content, suffix = whole
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"wrong{suffix}"
    path.write_bytes(changed)
    with contextlib.suppress(QvggtError):
        source = open_weight_file(path)
        for name in source.names():
            assert source.tensor(name).shape == source.shape(name)


@some
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".safetensors.index.json"])
@given(content=st.binary(max_size=200))
@example(content=b"PK\x03\x04")
@example(content=b"\x80\x02}q\x00.")
@example(content=b"[" * 100_000)
@example(content=b'{"weight_map": {}}')
@example(content=b'{"weight_map": {"a": 5}}')
@example(content=b'{"weight_map": {"a": ["b"]}}')
@example(content=b'{"weight_map": {"a": "gone.safetensors"}}')
@example(content=b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5030000000\n")
def test_random_bytes_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"random{suffix}"
    path.write_bytes(content)
    with pytest.raises(QvggtError):
        open_weight_file(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_and_short_files_are_truncated_and_noise_is_no_checkpoint(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"")
    assert "is truncated" in refusal(path)
    whole = write(tmp_path / f"whole{suffix}").read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "is truncated" in refusal(path)
    path.write_bytes(b"this is a text and no model at all " * 40)
    assert "is not a" in refusal(path)
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert "is not a" in refusal(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    assert "is not a checkpoint: give a .safetensors" in refusal(path)
    assert "there is no file" in refusal(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("how", ["zipped", "old", "bare pickle"])
def test_a_pickle_that_wants_code_is_refused_and_no_code_runs(tmp_path, how):
    path, witness = tmp_path / "model.pt", tmp_path / "ran"
    content = {"weight": torch.ones(2), "extra": RunsCode(witness)}
    if how == "bare pickle":
        path.write_bytes(pickle.dumps({"extra": RunsCode(witness)}, protocol=2))
    else:
        write_torch(path, content, zipped=how == "zipped")
    sentence = refusal(path)
    assert "wants to run code" in sentence
    assert "weights_only" not in sentence
    assert not witness.exists()
    with pytest.raises(QvggtError, match="wants to run code"):
        open_weights(path)
    assert not witness.exists()


def test_a_pickled_object_is_code_too(tmp_path):
    assert "wants to run code" in refusal(write_torch(tmp_path / "model.pt", {"model": Unknown()}))


@pytest.mark.parametrize(
    "content",
    [
        torch.ones(3), [torch.ones(3)], {"model": 3}, {"lr": 0.1, "steps": 3}, {0: torch.ones(1)},
        {"model": {}}, {"model": {"state_dict": {}}}, "text", None,
    ],
)  # fmt: skip
def test_a_pt_file_without_named_tensors_is_no_models_checkpoint(tmp_path, content):
    path = tmp_path / "model.pt"
    torch.save(content, path)
    assert "holds no named tensors" in refusal(path)


def test_an_archive_that_is_not_torchs_is_refused(tmp_path):
    import zipfile

    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not a PyTorch checkpoint" in refusal(path)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "sub/inside.safetensors", "..", ""])
def test_shards_outside_the_folder_are_refused(tmp_path, name):
    write_safetensors(tmp_path / "outside.safetensors", {"a": torch.ones(1)})
    index = tmp_path / "folder" / "model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    assert "outside its own folder" in refusal(index)


def test_a_missing_shard_is_named(tmp_path):
    index = write_shards(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(QvggtError, match=r"no file .*model-00002-of-00003.safetensors"):
        open_weight_file(index)


def test_sources_agree_on_names_shapes_and_values(tmp_path):
    expected = micro_state()
    sources = [
        open_weight_file(write_safetensors(tmp_path / "one.safetensors")),
        open_weight_file(write_shards(tmp_path / "shards")),
        open_weight_file(write_torch(tmp_path / "one.pt")),
        open_weight_file(write_torch(tmp_path / "old.pt", zipped=False)),
    ]
    assert [type(source) for source in sources] == [SafetensorsSource, SafetensorsSource, TorchSource, TorchSource]
    assert [len(source.files) for source in sources] == [1, 3, 1, 1]
    for source in sources:
        assert sorted(source.names()) == sorted(expected)
        assert all(source.shape(name) == tuple(tensor.shape) for name, tensor in expected.items())
        assert all(torch.equal(source.tensor(name), tensor) for name, tensor in expected.items())


def test_hash_is_of_all_bytes_in_order(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"ab")
    two.write_bytes(b"c")
    both = tmp_path / "both"
    both.write_bytes(b"abc")
    assert hash_files([one, two]) == hash_files([both]) != hash_files([two, one])
    assert hash_files([both]) == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
