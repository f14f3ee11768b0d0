from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvggt.inference.memory_sums import PassSize, stage_memory
from qvggt.model import VGGTConfig
from qvggt.options import InferenceOptions, WindowOptions

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
    assert stage.tokens == tokens
    assert stage.layers == 3 * tokens + 8 * 1024 * 1024 * 4


@pytest.mark.parametrize(("window", "expected"), [(None, (20, 0)), (8, (8, 12)), (30, (20, 0))])
def test_pass_size__windows_are_processed_one_at_a_time(window, expected):
    size = PassSize.of((20, 3, 84, 98), options=InferenceOptions(windows=WindowOptions.of(window)))
    assert (size.frames, size.other_frames) == expected
    assert (size.height_px, size.width_px) == (84, 98)
