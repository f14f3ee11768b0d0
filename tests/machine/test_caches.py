import os

import pytest

from qvggt.machine.caches import read_caches


@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_read_caches__places_and_sizes(caches):
    (caches / "qvggt" / "native").mkdir(parents=True)
    (caches / "qvggt" / "native" / "a.so").write_bytes(b"12345")
    (caches / "qvggt" / "other").mkdir()
    (caches / "hub" / "blobs").mkdir(parents=True)
    (caches / "hub" / "blobs" / "x").write_bytes(b"123")
    os.symlink(caches / "hub" / "blobs" / "x", caches / "hub" / "model.safetensors")
    os.link(caches / "hub" / "blobs" / "x", caches / "hub" / "twice")
    found = {cache.what: cache for cache in read_caches()}
    assert list(found) == [
        "compiled library", "measured compute modes", "results of evaluate", "checkpoints of compare", "other",
        "Hugging Face hub",
    ]  # fmt: skip
    assert (found["compiled library"].files, found["compiled library"].bytes) == (1, 5)
    assert found["compiled library"].folder == str(caches / "qvggt" / "native")
    assert (found["Hugging Face hub"].files, found["Hugging Face hub"].bytes) == (1, 3)
    assert found["measured compute modes"].files == 0
