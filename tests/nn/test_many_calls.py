"""One quantized model serves many threads and many calls."""

import gc
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch

import qvggt


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many") / "nano-4bit"
    qvggt.save(qvggt.quantize("nano"), folder)
    return folder


def images(seed):
    return torch.rand(1, 1, 3, 56, 84, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("compute", ["float", "int8"])
def test_quantized_model__eight_threads_at_once(checkpoint, compute):
    model = qvggt.load(checkpoint, compute=compute)

    def depth(seed):
        with torch.inference_mode():
            return model(images(seed))["depth"]

    expected = [depth(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(depth, range(8)))
    assert all(map(torch.equal, expected, found))


@pytest.mark.slow
def test_quantized_model__memory_stays_flat(checkpoint):
    model, x = qvggt.load(checkpoint, compute="int8"), images(0)
    sizes = []
    with torch.inference_mode():
        for _ in range(4):
            for _ in range(50):
                model(x)
            gc.collect()
            sizes.append(psutil.Process().memory_info().rss)
    assert sizes[-1] - sizes[0] < 4 << 20
