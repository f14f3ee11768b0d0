"""Planned memory against what a process really uses."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import qvggt
from qvggt.api import reconstruct as api
from qvggt.backends.native.library import unavailable_reason
from qvggt.export.result import ResultInfo, write_result
from qvggt.inference.memory_plan import model_size, output_bytes, plan_memory
from qvggt.inference.memory_sums import PassSize
from qvggt.options import InferenceOptions, WindowOptions
from qvggt.weights.pretrained import sample_images

RECONSTRUCT = """
import json, sys
import numpy as np
from qvggt.api import reconstruct as api
from qvggt.inference.process_memory import peak_memory_bytes
from qvggt.inference.memory_plan import model_size, plan_memory
from qvggt.inference.memory_sums import PassSize
from qvggt.options import InferenceOptions, WindowOptions

frames, window = json.loads(sys.argv[1])
model = api.load("seeded:nano")
model.config = type(model.config)(**{**vars(model.config), "image_size": 252})
images = list(np.random.default_rng(0).integers(0, 255, (frames, 252, 252, 3), dtype=np.uint8))
size = PassSize.of((frames, 3, 252, 252), ("camera", "depth"), InferenceOptions(windows=WindowOptions.of(window)))
planned = plan_memory(model_size(model), size).peak_bytes
limit = int(1.01 * planned)  # close, so that freed memory is released
api.reconstruct(model, images, memory_bytes=limit, windows=window and WindowOptions(window, 1))
print(json.dumps([planned, peak_memory_bytes()]))
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the process keeps what it frees")
@pytest.mark.parametrize("job", [(20, None), (20, 6)])
def test_plan_memory__peak_of_a_process_is_within_6_percent(job):
    done = subprocess.run(
        [sys.executable, "-c", RECONSTRUCT, json.dumps(job)], capture_output=True, text=True, check=True
    )
    planned, measured = json.loads(done.stdout)
    assert measured == pytest.approx(planned, rel=0.06)


def test_plan_memory__files_are_written_without_the_model():
    model, size = model_size("seeded:vggt-1b"), PassSize.of((8, 3, 518, 518), heads=("camera", "depth"))
    whole, alone = plan_memory(model, size, written_points=10**6), plan_memory(model, size)
    assert whole.peak_bytes == alone.peak_bytes
    assert alone.writing_bytes == 0
    assert whole.program_bytes < whole.writing_bytes < whole.weight_bytes
    small = model_size("seeded:micro")
    limit = plan_memory(small, size).peak_bytes
    many = PassSize.of((99, 3, 518, 518), ("camera", "depth"), InferenceOptions(windows=WindowOptions(8)))
    assert plan_memory(small, many, written_points=10**7).peak_bytes > plan_memory(small, many).peak_bytes
    with pytest.raises(qvggt.QvggtError, match="smaller images"):
        plan_memory(small, many, limit, 10**7)


def test_output_bytes__is_what_files_take(tmp_path):
    predicted = qvggt.reconstruct("nano", sample_images())
    size = PassSize.of(predicted.images.shape, ("camera", "depth"))
    write_result(predicted, ResultInfo("nano"), tmp_path)
    taken = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 0.4 * taken < output_bytes(size, 10**6) < taken


def test_reconstruct__refuses_a_disk_that_is_too_full_before_the_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    monkeypatch.setattr(api, "predict_windows", None)
    with pytest.raises(qvggt.QvggtError, match=r"the disk is full: .*deep/out needs about"):
        api.reconstruct("nano", sample_images(), output=tmp_path / "deep" / "out", written_points=1000)


def test_plan_memory__a_limit_shortens_chunks():
    model = model_size("seeded:vggt-1b")
    size = PassSize.of((30, 3, 518, 518))
    free = plan_memory(model, size)
    close = plan_memory(model, size, free.peak_bytes)
    tight = plan_memory(model, size, close.peak_bytes - 3 * 10**7)
    assert free.size == close.size == size
    assert tight.peak_bytes <= close.peak_bytes - 3 * 10**7
    assert tight.size.chunk_tokens < size.chunk_tokens


def test_plan_memory__freed_memory_is_retained_where_the_limit_leaves_room():
    model, size = model_size("seeded:vggt-1b"), PassSize.of((30, 3, 518, 518))
    free = plan_memory(model, size)
    plans = [plan_memory(model, size, int(factor * free.peak_bytes)) for factor in (1.0, 1.3)]
    assert free.retained
    assert [plan.retained for plan in plans] == [False, True]
    assert plans[0].peak_bytes < plans[1].peak_bytes == free.peak_bytes


def forty_frames_in(window):
    return PassSize.of((40, 3, 518, 518), options=InferenceOptions(windows=WindowOptions(window)))


def test_plan_memory__a_limit_that_is_too_small_names_a_window_that_fits():
    model = model_size("seeded:vggt-1b")
    size = PassSize.of((40, 3, 518, 518))
    limit = plan_memory(model, forty_frames_in(6)).peak_bytes
    with pytest.raises(qvggt.QvggtError, match=r"40 frames.*518x518") as caught:
        plan_memory(model, size, limit)
    window = int(re.findall(r"--window (\d+)", str(caught.value))[0])
    assert 6 <= window < 40
    stored = PassSize(window, 518, 518, stored_frames=40 - window)  # as the command keeps them
    assert plan_memory(model, stored, limit).peak_bytes <= limit
    held = PassSize(window, 518, 518, other_frames=40 - window)
    with pytest.raises(qvggt.QvggtError, match=rf"windows of {window} frames in files \(folder"):
        plan_memory(model, held, limit)
    with pytest.raises(qvggt.QvggtError, match=r"100\.0 kB.*smaller model"):
        plan_memory(model, size, 10**5)


def test_model_size__of_a_checkpoint_equals_that_of_the_loaded_model(tmp_path):
    qvggt.quantize_to("seeded:micro", tmp_path / "4bit", "rtn")
    loaded = qvggt.load(tmp_path / "4bit")
    planned, found = model_size(tmp_path / "4bit"), model_size(loaded)
    assert planned.weight_bytes == found.weight_bytes == sum(each.nbytes for each in loaded.state_dict().values())
    assert planned.weight_bytes < model_size("seeded:micro").weight_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody says what of a file is in memory")
def test_model_size__weights_in_a_mapped_file_are_not_counted_as_program(tmp_path):
    (tmp_path / "weights").write_bytes(bytes(1 << 26))
    model = qvggt.load("seeded:micro")
    model.register_buffer("mapped", torch.from_file(str(tmp_path / "weights"), size=1 << 24))
    unread = model_size(model)
    model.mapped.sum()
    read = model_size(model)
    assert read.weight_bytes == unread.weight_bytes > 1 << 26
    assert abs(read.program_bytes - unread.program_bytes) < 1 << 23


@pytest.mark.skipif(unavailable_reason() is not None, reason="no native library on this machine")
def test_cache_dtype__int8_stores_activations_in_16_bits_with_equal_results(tmp_path):
    qvggt.quantize_to("seeded:micro", tmp_path / "4bit", "rtn")
    planned = [model_size(tmp_path / "4bit", compute=compute) for compute in ("float", "int8")]
    assert [size.cached_bytes for size in planned] == [4, 2]
    size = PassSize.of((30, 3, 518, 518))
    assert plan_memory(planned[1], size).peak_bytes < plan_memory(planned[0], size).peak_bytes
    model = qvggt.load(tmp_path / "4bit", compute="int8")
    images = torch.rand(1, 3, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, waiting = model(images), model(images, chunk_tokens=16)
    for name, value in whole.items():
        assert (waiting[name] - value).norm() < 0.02 * value.norm(), name


@pytest.mark.skipif(unavailable_reason() is not None, reason="no native library on this machine")
def test_cache_dtype__values_beyond_float16_are_stored_in_float32(tmp_path):
    qvggt.quantize_to("seeded:micro", tmp_path / "4bit", "rtn")
    model = qvggt.load(tmp_path / "4bit", compute="int8")
    images = torch.rand(1, 3, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    frame_block = model.aggregator.frame_blocks[model.config.dpt_layers[1]]
    frame_block.ls2.gamma[3], frame_block.mlp.fc2.bias[3] = 1.0, 1e5
    with torch.inference_mode():
        whole, waiting = model(images), model(images, chunk_tokens=16)
    for name, value in whole.items():
        assert (waiting[name] - value).norm() < 0.02 * value.norm(), name


def test_reconstruct__a_memory_limit_does_not_change_the_prediction():
    model, images = qvggt.load("seeded:micro"), sample_images()
    free = qvggt.reconstruct(model, images)
    with pytest.raises(qvggt.QvggtError, match="limit"):
        qvggt.reconstruct(model, images, memory_bytes=10**6)
    tight = qvggt.reconstruct(model, images, memory_bytes=10**12)
    np.testing.assert_array_equal(tight.depth, free.depth)
    np.testing.assert_array_equal(tight.cam_from_world, free.cam_from_world)
