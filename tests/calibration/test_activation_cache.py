import gc

import pytest
import torch

from qvggt.calibration.activation_cache import ActivationCache
from qvggt.calibration.units import ForwardState, advance, model_units, start
from qvggt.types import QvggtError


@pytest.mark.parametrize("budget", [0, 1 << 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1,), (), (0, 7)])
def test_values_survive(tmp_path, budget, dtype, shape):
    tensor = (torch.randn(shape) * 50).to(dtype)
    kept = ActivationCache(budget, tmp_path).put(tensor)
    assert (kept.dtype, kept.shape) == (dtype, shape)
    assert torch.equal(kept, tensor)


def test_views_survive(tmp_path):
    tensor = torch.arange(24.0).view(4, 6).T[::2]
    kept = ActivationCache(0, tmp_path).put(tensor)
    assert torch.equal(kept, tensor)


def test_without_a_budget_everything_is_in_files_that_nobody_sees(tmp_path):
    cache = ActivationCache(0, tmp_path)
    kept = [cache.put(torch.full((100,), float(index))) for index in range(3)]
    assert (cache.used_bytes, cache.mapped_bytes) == (0, 1200)
    assert list(tmp_path.iterdir()) == []
    assert [int(tensor[99]) for tensor in kept] == [0, 1, 2]


def test_memory_up_to_the_budget_then_files(tmp_path):
    cache = ActivationCache(1000, tmp_path)
    first, second = cache.put(torch.zeros(200)), cache.put(torch.zeros(200))
    assert (cache.used_bytes, cache.mapped_bytes) == (800, 800)
    del first
    gc.collect()
    assert cache.used_bytes == 0
    third = cache.put(torch.zeros(250))  # there is room again
    assert (cache.used_bytes, cache.mapped_bytes) == (1000, 800)
    del second, third
    gc.collect()
    assert cache.used_bytes == 0


@pytest.mark.parametrize("budget", [0, 100_000, 1 << 30])
def test_a_walk_is_the_same_from_the_cache_and_leaves_nothing(micro, batches, tmp_path, budget):
    cache = ActivationCache(budget, tmp_path)
    kept = plain = start(batches[0].images)
    with torch.no_grad():
        for unit in model_units(micro):
            plain = advance(micro, unit, plain)
            kept = cache.put_state(advance(micro, unit, kept), kept)
            assert cache.used_bytes <= budget
    assert all(torch.equal(kept.outputs[name], value) for name, value in plain.outputs.items())
    assert (cache.mapped_bytes > 0) == (budget < 1 << 30)
    del kept
    gc.collect()
    assert cache.used_bytes == 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_state_shares_is_kept_once(tmp_path):
    cache = ActivationCache(0, tmp_path)
    tokens, old = torch.ones(10), torch.ones(20)
    before = cache.put_state(ForwardState(torch.zeros(0), torch.zeros(0), pairs={0: old}), start(torch.zeros(0)))
    written = cache.mapped_bytes
    after = cache.put_state(ForwardState(torch.zeros(0), tokens, tokens, before.pairs), before)
    assert cache.mapped_bytes == written + 40
    assert after.tokens is after.in_frame
    assert after.pairs[0] is before.pairs[0]


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    with pytest.raises(QvggtError, match=r"cannot write .*: "):
        ActivationCache(0, tmp_path / "missing").put(torch.zeros(3))
