import weakref
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import qvggt
from qvggt.inference.memory_sums import PassSize, stage_memory
from qvggt.model import VGGT, VGGTConfig, chunking
from qvggt.options import InferenceOptions, WindowOptions
from qvggt.types import AttentionPlan, BlockAttention, PlanLevel

FULL = VGGTConfig.vggt_1b()


def peak(size, config=FULL):
    return max(stage.total for stage in stage_memory(config, size))


@given(
    frames=st.integers(1, 60),
    side=st.sampled_from([84, 252, 518]),
    chunk=st.sampled_from([512, 2048, 8192]),
    dense=st.integers(1, 8),
)
def test_stage_memory__grows_with_the_input(frames, side, chunk, dense):
    size = PassSize(frames, side, side, chunk_tokens=chunk, dense_frames=dense)
    least = peak(size)
    assert least > 0
    for more in ({"frames": frames + 1}, {"other_frames": 3}):
        assert peak(replace(size, **more)) >= least, more
    assert peak(replace(size, heads=("camera",))) <= least


def test_stage_memory__heads_that_are_not_run_take_none():
    cameras = stage_memory(FULL, PassSize(4, 518, 518, ("camera",)))
    assert [stage.stage for stage in cameras] == ["patch embedding", "frame attention", "global attention"]
    assert not any(stage.maps or stage.answers for stage in cameras)
    depth = stage_memory(FULL, PassSize(4, 518, 518, ("camera", "depth")))
    assert [stage.stage for stage in depth][-3:] == ["reading pairs", "depth maps", "points"]
    windows = stage_memory(FULL, PassSize(4, 518, 518, ("camera", "depth"), other_frames=9))
    assert [stage.stage for stage in windows] == [*(stage.stage for stage in depth), "joining"]


def test_stage_memory__long_sequences_store_queries_keys_and_values():
    size = PassSize(30, 518, 518, chunk_tokens=1024)
    (stage,) = (stage for stage in stage_memory(FULL, size) if stage.stage == "global attention")
    tokens = 30 * 1374 * 1024 * 4
    angles = 2 * 30 * 1374 * 64 * 4
    assert stage.tokens == tokens + angles
    assert stage.layers == 3 * tokens + 7 * 1024 * 1024 * 4


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, at most, within each unit of a forward pass; of meta tensors too."""

    def __init__(self):
        super().__init__()
        self.now, self.unit, self.peaks, self.alive = 0, "", Counter(), {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and not isinstance(tensor, torch.nn.Parameter):
                self._add(tensor.untyped_storage())
        self.peaks[self.unit] = max(self.peaks[self.unit], self.now)
        return result

    def _add(self, storage):
        if self.alive.get(id(storage), lambda: None)() is None:
            key, count = id(storage), storage.nbytes()

            def gone(_):
                self.now -= count
                del self.alive[key]

            self.alive[key] = weakref.ref(storage, gone)
            self.now += count

    @contextmanager
    def observe(self, unit):
        self.unit = unit.split("/")[0]
        yield
        self.unit = ""


@pytest.mark.parametrize(("frames", "height"), [(8, 392), (4, 518), (6, 98)])
def test_stage_memory__maps_are_what_tensors_take(frames, height):
    live, size = LiveBytes(), PassSize(frames, height, 518, ("camera", "depth"))
    with torch.device("meta"):
        model = VGGT(FULL).eval()
    with torch.inference_mode(), live:
        images = torch.empty(1, frames, 3, height, 518, device="meta")
        chunking.run(model, images, size.heads, size.dense_frames, observe=live.observe)
    planned = {stage.stage: stage.total for stage in stage_memory(FULL, size)}
    # Beyond the tensors, the plan counts the padded copy of a map within a convolution.
    fine = 16 * max(1, min(frames, 2**18 // (518 * height))) * height // 14 * 37 * 256 * 4
    assert live.peaks["depth"] + fine == pytest.approx(planned["depth maps"], rel=0.05)


@pytest.mark.parametrize(("window", "expected"), [(None, (20, 0)), (8, (8, 12)), (30, (20, 0))])
def test_pass_size__windows_are_processed_one_at_a_time(window, expected):
    size = PassSize.of((20, 3, 84, 98), options=InferenceOptions(windows=WindowOptions.of(window)))
    assert (size.frames, size.other_frames) == expected
    assert (size.height_px, size.width_px) == (84, 98)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["exact", "frame", "pooled 1", "pooled 2", "sampled 2", "sampled 6"])
def test_stage_memory__global_blocks_hold_what_the_plan_says(compute, kind):
    model, live = qvggt.load("seeded:nano", compute=compute), LiveBytes()
    plan = AttentionPlan((PlanLevel(1, (BlockAttention.parse(kind),) * model.config.depth),))
    size = PassSize(12, 252, 252, ("camera",), chunk_tokens=512)
    model.aggregator.global_attention = plan
    with torch.inference_mode(), live:
        images = torch.empty(1, size.frames, 3, 252, 252)
        chunking.run(model, images, size.heads, chunk_tokens=size.chunk_tokens, observe=live.observe)
    cached = (model.arithmetic.cache_dtype or torch.float32).itemsize
    planned = {stage.stage: stage.total for stage in stage_memory(model.config, size, cached, plan)}
    assert live.peaks["global"] == pytest.approx(planned["global attention"], rel=0.07)
