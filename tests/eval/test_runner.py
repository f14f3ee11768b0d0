import sys
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch

from qvggt.data.dataset import SequenceRecord
from qvggt.eval.plan import Job
from qvggt.eval.results import SceneResult
from qvggt.eval.runner import run
from qvggt.eval.work import Work
from qvggt.options import ImageOptions, RunOptions
from qvggt.types import QvggtError, Scene

JOBS = [Job(SequenceRecord(f"s{i}", ("a", "b")), (i % 2,)) for i in range(5)]
SETTINGS = {"dataset": "fake", "split": "test"}


@dataclass
class FakeReader:
    name: str = "fake"
    split: str = "test"
    broken: str = ""
    read: list[str] = field(default_factory=list)

    def sequences(self):
        return [job.record for job in JOBS]

    def load(self, record, frame_indices, options):
        if record.name == self.broken:
            raise QvggtError(f"{record.name} is missing: download it")
        self.read.append(record.name)
        return Scene(record.name, np.full((1, 3, options.size, options.size), frame_indices[0], np.float32))


def meter(threads: list[int]):
    def measure(scene: Scene) -> SceneResult:
        threads.append(torch.get_num_threads())
        return SceneResult(scene.name, "", ("p",), 1, values={"v": float(scene.images.mean()) / 3})

    return measure


def work(reader: FakeReader, threads: list[int] | None = None) -> Work:
    return Work(reader, ImageOptions(14, 14), partial(meter, [] if threads is None else threads))


def test_results_come_in_the_order_of_the_jobs():
    seen = []
    results = run(work(FakeReader()), JOBS, RunOptions(), SETTINGS, lambda r, stored: seen.append((r.scene, stored)))
    assert [result.scene for result in results] == ["s0", "s1", "s2", "s3", "s4"]
    assert [result.values["v"] for result in results] == [0, 1 / 3, 0, 1 / 3, 0]
    assert seen == [(f"s{i}", False) for i in range(5)]


def test_neither_the_order_nor_the_other_scenes_matter():
    forward = run(work(FakeReader()), JOBS, RunOptions(), SETTINGS)
    assert run(work(FakeReader()), JOBS[::-1], RunOptions(), SETTINGS) == forward[::-1]
    assert run(work(FakeReader()), JOBS[3:4], RunOptions(), SETTINGS) == forward[3:4]


def test_an_interrupted_run_goes_on(tmp_path):
    options = RunOptions(store=tmp_path)
    whole = run(work(FakeReader()), JOBS, RunOptions(), SETTINGS)
    with pytest.raises(QvggtError, match="s3 is missing"):
        run(work(FakeReader(broken="s3")), JOBS, options, SETTINGS)
    reader, seen = FakeReader(), []
    assert run(work(reader), JOBS, options, SETTINGS, lambda r, stored: seen.append(stored)) == whole
    assert reader.read == ["s3", "s4"]
    assert seen == [True] * 3 + [False] * 2


def test_nothing_is_loaded_if_all_is_stored(tmp_path):
    options = RunOptions(store=tmp_path)
    results = run(work(FakeReader()), JOBS, options, SETTINGS)
    unused = Work(FakeReader(), ImageOptions(14, 14), lambda: pytest.fail("the model was loaded"))
    assert run(unused, JOBS, options, SETTINGS) == results


def test_fresh_measures_anew_and_stores_it(tmp_path):
    run(work(FakeReader()), JOBS, RunOptions(store=tmp_path), SETTINGS)
    reader = FakeReader()
    run(work(reader), JOBS, RunOptions(store=tmp_path, fresh=True), SETTINGS)
    assert len(reader.read) == 5


def test_threads_are_set_and_put_back():
    before, threads = torch.get_num_threads(), []
    run(work(FakeReader(), threads), JOBS, RunOptions(threads=before + 1), SETTINGS)
    assert threads == [before + 1] * 5
    assert torch.get_num_threads() == before


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(QvggtError, match=r'pip install "qvggt\[ray\]"'):
        run(work(FakeReader()), JOBS, RunOptions(engine="ray"), SETTINGS)


def test_impossible_options_are_refused():
    with pytest.raises(QvggtError, match="at least one thread and one worker"):
        RunOptions(threads=0)
    with pytest.raises(QvggtError, match="'cloud'"):
        RunOptions(engine="cloud")
