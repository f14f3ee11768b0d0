from dataclasses import replace

import pytest
import torch

from qvggt.backends import Choice
from qvggt.backends.choice import PRODUCT_SIZE
from qvggt.inference.memory_plan import largest_window, model_size, plan_memory
from qvggt.inference.memory_sums import PassSize
from qvggt.machine import needs
from qvggt.machine.hardware import Gpu, Memory
from qvggt.model import VGGT, VGGTConfig

GB = 10**9
AMPLE = Memory(1000 * GB, 900 * GB)


@pytest.fixture(autouse=True)
def plain_cpu(monkeypatch):
    """Choose float32 on the CPU, whatever this machine has."""
    monkeypatch.setattr(needs, "choose", lambda *_: Choice("cpu", "float32", "for a test"))
    monkeypatch.setattr(needs, "resident_memory_bytes", lambda: 0)


def by_frames(memory, gpus=(), measure=False):
    found = needs.what_is_needed(memory, gpus, measure=measure)
    return {(need.weights, need.frames): need for need in found}


def test_what_is_needed__ample_memory():
    found = by_frames(AMPLE)
    assert list(found) == [(weights, frames) for weights in ("float", "4 bits") for frames in (1, 8, 30, 100)]
    assert all(need.fits and need.reduced_bytes is None and need.seconds is None for need in found.values())
    peaks = [found["float", frames].peak_bytes for frames in needs.FRAMES]
    assert peaks == sorted(peaks)
    saved = found["float", 1].peak_bytes - found["4 bits", 1].peak_bytes
    assert 4.0 * GB < saved < 4.3 * GB  # 4.8 GB of weights in float32, 0.66 GB packed


def test_what_is_needed__is_what_plan_says():
    found = by_frames(AMPLE)["float", 8].peak_bytes
    planned = plan_memory(model_size("seeded:vggt-1b"), PassSize.of((8, 3, 518, 518), ("camera", "depth")), None, 10**6)
    assert found == pytest.approx(planned.peak_bytes, rel=0.02)


def test_what_is_needed__advice_where_memory_is_short():
    peaks = {frames: by_frames(AMPLE)["4 bits", frames].peak_bytes for frames in needs.FRAMES}
    short = by_frames(Memory(16 * GB, peaks[100] - 5 * 10**7))["4 bits", 100]
    assert short.fits
    assert short.reduced_bytes is not None
    assert short.reduced_bytes <= short.usable_bytes < short.peak_bytes
    tight = by_frames(Memory(16 * GB, peaks[30]))
    assert tight["4 bits", 8].fits
    assert not tight["4 bits", 100].fits
    assert 8 < tight["4 bits", 100].window < 100
    none = by_frames(Memory(16 * GB, GB // 2))["float", 1]
    assert (none.fits, none.window) == (False, 0)


def test_largest_window__fits_and_one_more_frame_does_not():
    model, size = model_size("seeded:vggt-1b"), PassSize.of((100, 3, 518, 518), ("camera", "depth"))
    limit = plan_memory(model, replace(size, frames=40), None).peak_bytes
    frames = largest_window(model, size, limit)
    assert 2 <= frames < 100
    for count, refused in ((frames, False), (frames + 1, True)):
        window = replace(size, frames=count, stored_frames=100 - count, chunk_tokens=512, dense_frames=1)
        try:
            plan_memory(model, window, limit)
        except needs.QvggtError:
            assert refused
        else:
            assert not refused


def test_what_is_needed__times_one_product(monkeypatch):
    monkeypatch.setattr(needs, "product_seconds", lambda mode: 2 * PRODUCT_SIZE / 1e12)  # a processor of 1 TFLOP/s
    found = by_frames(AMPLE, measure=True)
    least, most = found["float", 1].seconds
    assert least < 3.34 < most
    assert found["float", 100].seconds[0] == pytest.approx(0.8 * (315.4 + 1856))


def test_what_is_needed__on_a_gpu_counts_its_memory_without_the_process(monkeypatch):
    cpu = by_frames(AMPLE)["float", 8]
    monkeypatch.setattr(needs, "choose", lambda *_: Choice("cuda", "float32", "for a test"))
    monkeypatch.setattr(needs, "_shell", lambda weights, chosen: _meta())
    found = by_frames(AMPLE, (Gpu("cuda:0", "A GPU", 16 * GB, 12 * GB),), measure=True)["float", 8]
    assert (found.device, found.usable_bytes, found.fits, found.seconds) == ("cuda", 12 * GB, True, None)
    assert 4.8 * GB < found.peak_bytes < cpu.peak_bytes + GB


def _meta():
    with torch.device("meta"):
        return VGGT(VGGTConfig.vggt_1b())


def test_operations__are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    counted = {}
    model = _meta().float().eval().requires_grad_(False)
    for frames in (1, 2):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(torch.empty(1, frames, 3, 518, 518, device="meta"), heads=("camera", "depth"))
        counted[frames] = counter.get_total_flops()
    pair = (counted[2] - 2 * counted[1]) / 2
    assert pytest.approx(pair, rel=0.001) == needs.PAIR_OPERATIONS
    assert counted[1] - pair == pytest.approx(needs.FRAME_OPERATIONS, rel=0.001)


def test_what_auto_takes(monkeypatch):
    monkeypatch.setattr(
        needs, "choose", lambda device, compute, width, packed: Choice("cpu", "int8", f"{width} {packed}")
    )
    assert [(taken.model, taken.weights, taken.reason) for taken in needs.what_auto_takes()] == [
        ("VGGT-1B", "float", "1024 False"), ("VGGT-1B", "4 bits", "1024 True"),
        ("nano", "float", "128 False"), ("nano", "4 bits", "128 True"),
    ]  # fmt: skip
