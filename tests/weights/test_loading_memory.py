"""Loading from a memory-mapped file holds one copy of the weights, and that copy is the file's own pages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from weight_writing import write_safetensors, write_torch

from qvggt.model import VGGT, VGGTConfig
from qvggt.weights.open import load_float, open_weights
from qvggt.weights.seeded import SeededSource

MEASURE = """
import resource, sys
import torch
from qvggt.weights.open import load_float, open_weights

def peak_bytes():
    # Linux counts in ru_maxrss what the parent had in memory when it forked; VmHWM is of this program alone.
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

load_float(open_weights("seeded:micro"))
before = peak_bytes()
model = load_float(open_weights(sys.argv[1]), dtype=getattr(torch, sys.argv[2]))
checksum = sum(float(p.sum(dtype=torch.float32)) for p in model.parameters())  # reads every page
print(before, peak_bytes(), checksum)
"""


def measure(path, dtype="float32"):
    command = [sys.executable, "-c", MEASURE, str(path), dtype]
    before, after, _ = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(after) - float(before)


def file_mappings(path):
    """Address ranges at which this process has mapped a file."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not list a process's mappings")
    ranges = [line.split()[0].split("-") for line in maps.read_text().splitlines() if line.endswith(str(path))]
    return [(int(start, 16), int(end, 16)) for start, end in ranges]


@pytest.mark.parametrize("write", [write_safetensors, write_torch])
def test_parameters_lie_on_the_files_own_pages(tmp_path, write):
    path = write(tmp_path / ("model.pt" if write is write_torch else "model.safetensors"))
    weights = open_weights(path)
    model = load_float(weights)
    ranges = file_mappings(path)
    for name, parameter in model.named_parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in ranges), name
        assert parameter.data_ptr() == weights.source.tensor(name).data_ptr()


def test_changing_a_loaded_model_leaves_the_file_as_it_is(tmp_path):
    path = write_safetensors(tmp_path / "model.safetensors")
    before = path.read_bytes()
    model = load_float(open_weights(path))
    for parameter in model.parameters():
        parameter.zero_()
    assert path.read_bytes() == before


def test_a_model_is_built_without_memory_of_its_own():
    with torch.device("meta"):
        model = VGGT(VGGTConfig.vggt_1b())
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert not list(model.buffers())
    assert sum(p.numel() for p in model.parameters()) == 1_190_596_120


@pytest.mark.slow
def test_loading_holds_one_copy(tmp_path):
    config = VGGTConfig(embed_dim=512, vit_depth=6, vit_heads=8, depth=6, heads=8, dpt_layers=(2, 3, 4, 5))
    source = SeededSource(config)
    state = {name: source.tensor(name) for name in source.names()}
    size = sum(tensor.nbytes for tensor in state.values())
    assert size > 300e6
    whole, zipped = tmp_path / "model.safetensors", tmp_path / "model.pt"
    save_file(state, whole, {"config": json.dumps(config.to_json())})
    (tmp_path / "config.json").write_text(json.dumps({"vggt": config.to_json()}))
    torch.save(state, zipped)
    assert measure(whole) < 1.1 * size
    assert (
        measure(whole, "bfloat16") < 1.6 * size
    )  # the file's pages, which the system may drop, and half as much again
