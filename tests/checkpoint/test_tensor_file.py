import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qvggt.checkpoint.tensors import TensorFileWriter
from qvggt.types import QvggtError
from qvggt.weights.tensor_file import hash_tensors, read_header

TENSORS = {
    "half": torch.randn(3, 5).half(),
    "brain": torch.randn(7).bfloat16(),
    "words": torch.arange(12, dtype=torch.int32).view(3, 4),
    "shape": torch.tensor([3, 4]),
    "single": torch.tensor(2.5),
    "nothing": torch.zeros(0, 4),
}


def write(path, tensors):
    layout = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    with TensorFileWriter(path, layout, {"format": "pt"}) as writer:
        for name in reversed(list(tensors)):
            writer.write(name, tensors[name])
    return writer


def test_the_library_reads_what_we_write_in_any_order(tmp_path):
    write(tmp_path / "x", TENSORS)
    loaded = load_file(tmp_path / "x")
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in loaded.items())


def test_tensors_start_at_multiples_of_their_size(tmp_path):
    write(tmp_path / "x", TENSORS)
    for entry in read_header(tmp_path / "x").entries.values():
        assert entry.start % entry.dtype.itemsize == 0


def test_hashes_of_the_file_are_those_of_writing(tmp_path):
    writer = write(tmp_path / "x", TENSORS)
    file = read_header(tmp_path / "x")
    assert hash_tensors(file) == writer.hashes
    assert file.header_hash == writer.header_hash


def test_we_read_headers_that_the_library_writes(tmp_path):
    save_file(TENSORS, tmp_path / "x")
    entries = read_header(tmp_path / "x").entries
    assert {n: (e.dtype, e.shape) for n, e in entries.items()} == {
        n: (t.dtype, tuple(t.shape)) for n, t in TENSORS.items()
    }


@pytest.mark.parametrize(
    "header",
    [
        b"[]", b"{", b'{"a":{}}', b'{"a":{"dtype":"F99","shape":[],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    ],
)  # fmt: skip
def test_inconsistent_headers_are_refused(tmp_path, header):
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(QvggtError, match="is damaged"):
        read_header(tmp_path / "x")


@pytest.mark.process
def test_space_is_reserved_before_anything_is_computed(tmp_path):
    script = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from qvggt.files import new_folder\n"
        "from qvggt.checkpoint.tensors import TensorFileWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with new_folder(sys.argv[1], ['t']) as folder:\n"
        "    TensorFileWriter(folder / 't', {'a': (torch.float32, (10**6,))}, {})\n"
        "    raise SystemExit('reached')\n"
    )
    if not hasattr(os, "posix_fallocate"):
        pytest.skip("this system cannot reserve space")
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x")], capture_output=True, text=True, check=False
    )
    assert "QvggtError: cannot write" in run.stderr
    assert "larger than the system allows" in run.stderr
    assert not list(Path(tmp_path).iterdir())
