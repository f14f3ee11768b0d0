import gc

import pytest
import torch

from qvggt.calibration.activation_cache import Shelf
from qvggt.calibration.units import WalkState, advance, model_units, start
from qvggt.types import QvggtError


@pytest.mark.parametrize("budget", [0, 1 << 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1,), (), (0, 7)])
def test_values_survive(tmp_path, budget, dtype, shape):
    tensor = (torch.randn(shape) * 50).to(dtype)
    kept = Shelf(budget, tmp_path).put(tensor)
    assert (kept.dtype, kept.shape) == (dtype, shape)
    assert torch.equal(kept, tensor)


def test_views_survive(tmp_path):
    tensor = torch.arange(24.0).view(4, 6).T[::2]
    kept = Shelf(0, tmp_path).put(tensor)
    assert torch.equal(kept, tensor)


def test_without_a_budget_everything_is_in_files_that_nobody_sees(tmp_path):
    shelf = Shelf(0, tmp_path)
    kept = [shelf.put(torch.full((100,), float(index))) for index in range(3)]
    assert (shelf.held_bytes, shelf.mapped_bytes) == (0, 1200)
    assert list(tmp_path.iterdir()) == []
    assert [int(tensor[99]) for tensor in kept] == [0, 1, 2]


def test_memory_up_to_the_budget_then_files(tmp_path):
    shelf = Shelf(1000, tmp_path)
    first, second = shelf.put(torch.zeros(200)), shelf.put(torch.zeros(200))
    assert (shelf.held_bytes, shelf.mapped_bytes) == (800, 800)
    del first
    gc.collect()
    assert shelf.held_bytes == 0
    third = shelf.put(torch.zeros(250))  # there is room again
    assert (shelf.held_bytes, shelf.mapped_bytes) == (1000, 800)
    del second, third
    gc.collect()
    assert shelf.held_bytes == 0


@pytest.mark.parametrize("budget", [0, 100_000, 1 << 30])
def test_a_walk_is_the_same_from_the_shelf_and_leaves_nothing(micro, batches, tmp_path, budget):
    shelf = Shelf(budget, tmp_path)
    kept = plain = start(batches[0].images)
    with torch.no_grad():
        for unit in model_units(micro):
            plain = advance(micro, unit, plain)
            kept = shelf.put_state(advance(micro, unit, kept), kept)
            assert shelf.held_bytes <= budget
    assert all(torch.equal(kept.outputs[name], value) for name, value in plain.outputs.items())
    assert (shelf.mapped_bytes > 0) == (budget < 1 << 30)
    del kept
    gc.collect()
    assert shelf.held_bytes == 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_state_shares_is_kept_once(tmp_path):
    shelf = Shelf(0, tmp_path)
    tokens, old = torch.ones(10), torch.ones(20)
    before = shelf.put_state(WalkState(torch.zeros(0), torch.zeros(0), kept={0: old}), start(torch.zeros(0)))
    written = shelf.mapped_bytes
    after = shelf.put_state(WalkState(torch.zeros(0), tokens, tokens, before.kept), before)
    assert shelf.mapped_bytes == written + 40
    assert after.tokens is after.in_frame
    assert after.kept[0] is before.kept[0]


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    with pytest.raises(QvggtError, match=r"cannot write .*: "):
        Shelf(0, tmp_path / "missing").put(torch.zeros(3))
