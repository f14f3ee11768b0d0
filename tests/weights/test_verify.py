"""Checksums of weight files find damage that loading does not see."""

import hashlib

import pytest
import torch

from qvggt.types import QvggtError
from qvggt.weights.files import open_weight_file
from qvggt.weights.verify import verify_file


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"a.weight": torch.arange(400.0)}, path)
    return path


def test_verify_file_finds_a_changed_byte_of_a_tensor(weights):
    assert verify_file(weights)
    data = bytearray(weights.read_bytes())
    data[data.index(torch.arange(400.0).numpy().tobytes()) + 100] ^= 1
    weights.write_bytes(data)
    assert open_weight_file(weights).names() == ["a.weight"]
    with pytest.raises(QvggtError, match=r"checksum of .* is wrong"):
        verify_file(weights)


def test_verify_file_refuses_bytes_in_front_of_the_archive(weights):
    weights.write_bytes(weights.read_bytes() * 2)  # one zip reader takes the first archive, another the second
    with pytest.raises(QvggtError, match="in front of the archive"):
        verify_file(weights)


def test_verify_file_compares_files_of_the_hub_with_its_hash(tmp_path):
    content, blobs = b"weights", tmp_path / "blobs"
    blobs.mkdir()
    blob = blobs / hashlib.sha256(content).hexdigest()
    blob.write_bytes(content)
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert verify_file(tmp_path / "model.safetensors")
    blob.write_bytes(b"weightz")
    with pytest.raises(QvggtError, match="hash is not the hub's"):
        verify_file(tmp_path / "model.safetensors")


def test_verify_file_knows_no_checksum_of_other_files(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"x" * 99)
    assert not verify_file(tmp_path / "w.safetensors")


def test_verify_file_explains_a_damaged_directory_of_the_archive(weights):
    data = bytearray(weights.read_bytes())
    at = data.rindex(b"PK\x06\x07")  # the locator of the 64-bit directory: number of disks
    data[at + 16] = 9
    weights.write_bytes(data)
    with pytest.raises(QvggtError, match=r"w\.pt"):
        verify_file(weights)
