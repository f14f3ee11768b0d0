from types import SimpleNamespace

import pytest
import torch

from qvggt.inference.memory_plan import ModelSize
from qvggt.inference.ray_workers import _worker_count
from qvggt.inference.scenes import Workers, map_scenes, worker_bytes
from qvggt.model import VGGTConfig
from qvggt.options import InferenceOptions, WindowOptions
from qvggt.types import QvggtError

SIZE = ModelSize(VGGTConfig.vggt_1b(), weight_bytes=5_000_000_000, program_bytes=300_000_000)


def test_map_scenes_loads_once_and_keeps_the_order():
    made = []

    def make():
        made.append(torch.get_num_threads())
        return lambda task: (2 * task, torch.get_num_threads())

    before = torch.get_num_threads()
    assert list(map_scenes(make, [1, 2, 3], Workers(before + 1))) == [(n, (2 * n, before + 1)) for n in (1, 2, 3)]
    assert made == [before + 1]
    assert torch.get_num_threads() == before


def test_map_scenes_loads_nothing_for_no_scenes():
    assert list(map_scenes(lambda: pytest.fail("loaded"), [], Workers())) == []
    assert list(map_scenes(lambda: pytest.fail("loaded"), [], Workers(ray="auto"))) == []


def test_worker_bytes_hold_the_model_and_grow_with_frames_but_for_windows_and_limits():
    few, many = (worker_bytes(SIZE, frames, ("camera", "depth"), InferenceOptions()) for frames in (8, 40))
    assert SIZE.weight_bytes + SIZE.program_bytes < few < many
    windows = worker_bytes(SIZE, 40, ("camera", "depth"), InferenceOptions(windows=WindowOptions(8)))
    assert windows < many
    assert worker_bytes(SIZE, 40, ("camera",), InferenceOptions(memory_bytes=7)) == 7


def test_worker_bytes_count_the_model_while_files_are_written():
    micro = ModelSize(VGGTConfig.micro(), weight_bytes=5_000_000_000, program_bytes=0)
    without = worker_bytes(micro, 2, ("camera", "depth"), InferenceOptions())
    assert worker_bytes(micro, 2, ("camera", "depth"), InferenceOptions(), written_points=10**8) > without


def cluster(*machines):
    return SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": machine} for machine in machines])


GB = 10**9
SMALL, LARGE = {"CPU": 8.0, "memory": 20.0 * GB}, {"CPU": 32.0, "memory": 100.0 * GB, "GPU": 2.0}


@pytest.mark.parametrize(
    ("needs", "count"),
    [
        ({"CPU": 1, "GPU": 0, "memory": 0}, 40),
        ({"CPU": 8, "GPU": 0, "memory": 0}, 5),
        ({"CPU": 1, "GPU": 0, "memory": 9 * GB}, 2 + 11),
        ({"CPU": 12, "GPU": 0, "memory": 30 * GB}, 2),
        ({"CPU": 1, "GPU": 1, "memory": 0}, 2),
    ],
)
def test_worker_count_is_what_cpus_gpus_and_memory_of_each_machine_allow(needs, count):
    assert _worker_count(cluster(SMALL, LARGE), needs, None) == count
    assert _worker_count(cluster(SMALL, LARGE), needs, 1) == 1


def test_worker_count_says_when_fewer_fit_than_wanted(caplog):
    assert _worker_count(cluster(SMALL), {"CPU": 1, "GPU": 0, "memory": 9 * GB}, 8) == 2
    assert "2 workers fit the Ray cluster, not 8: each takes 1 CPUs and 9.00 GB of memory" in caplog.text


def test_worker_count_refuses_a_cluster_without_room():
    with pytest.raises(QvggtError, match=r"no machine .* 30\.00 GB of memory"):
        _worker_count(cluster(SMALL, SMALL), {"CPU": 1, "GPU": 0, "memory": 30 * GB}, None)
