import sys
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch

from qvggt.data.dataset import SequenceRecord
from qvggt.eval.plan import SceneTask
from qvggt.eval.results import SceneResult
from qvggt.eval.run import EvaluationPass, run
from qvggt.options import ImageOptions, RunOptions
from qvggt.types import QvggtError, Scene

TASKS = [SceneTask(SequenceRecord(f"s{i}", ("a", "b")), (i % 2,)) for i in range(5)]
SETTINGS = {"dataset": "fake", "split": "test"}


@dataclass
class FakeReader:
    name: str = "fake"
    split: str = "test"
    broken: str = ""
    read: list[str] = field(default_factory=list)

    def sequences(self):
        return [task.record for task in TASKS]

    def load(self, record, frame_indices, options):
        if record.name == self.broken:
            raise QvggtError(f"{record.name} is missing: download it")
        self.read.append(record.name)
        return Scene(record.name, np.full((1, 3, options.size, options.size), frame_indices[0], np.float32))


def evaluator(threads: list[int]):
    def measure(scene: Scene) -> SceneResult:
        threads.append(torch.get_num_threads())
        return SceneResult(scene.name, "", ("p",), 1, values={"v": float(scene.images.mean()) / 3})

    return measure


def evaluation(reader: FakeReader, threads: list[int] | None = None) -> EvaluationPass:
    return EvaluationPass(reader, ImageOptions(14, 14), partial(evaluator, [] if threads is None else threads))


def test_run_returns_results_in_the_order_of_the_tasks():
    seen = []
    results = run(
        evaluation(FakeReader()), TASKS, RunOptions(), SETTINGS, lambda r, stored: seen.append((r.scene, stored))
    )
    assert [result.scene for result in results] == ["s0", "s1", "s2", "s3", "s4"]
    assert [result.values["v"] for result in results] == [0, 1 / 3, 0, 1 / 3, 0]
    assert seen == [(f"s{i}", False) for i in range(5)]


def test_run_gives_a_scene_the_same_figures_in_any_order_and_company():
    forward = run(evaluation(FakeReader()), TASKS, RunOptions(), SETTINGS)
    assert run(evaluation(FakeReader()), TASKS[::-1], RunOptions(), SETTINGS) == forward[::-1]
    assert run(evaluation(FakeReader()), TASKS[3:4], RunOptions(), SETTINGS) == forward[3:4]


def test_run_resumes_after_an_interruption(tmp_path):
    options = RunOptions(store=tmp_path)
    whole = run(evaluation(FakeReader()), TASKS, RunOptions(), SETTINGS)
    with pytest.raises(QvggtError, match="s3 is missing"):
        run(evaluation(FakeReader(broken="s3")), TASKS, options, SETTINGS)
    reader, seen = FakeReader(), []
    assert run(evaluation(reader), TASKS, options, SETTINGS, lambda r, stored: seen.append(stored)) == whole
    assert reader.read == ["s3", "s4"]
    assert seen == [True] * 3 + [False] * 2


def test_run_loads_no_model_if_all_results_are_stored(tmp_path):
    options = RunOptions(store=tmp_path)
    results = run(evaluation(FakeReader()), TASKS, options, SETTINGS)
    unused = EvaluationPass(FakeReader(), ImageOptions(14, 14), lambda: pytest.fail("the model was loaded"))
    assert run(unused, TASKS, options, SETTINGS) == results


def test_run_fresh_ignores_stored_results(tmp_path):
    run(evaluation(FakeReader()), TASKS, RunOptions(store=tmp_path), SETTINGS)
    reader = FakeReader()
    run(evaluation(reader), TASKS, RunOptions(store=tmp_path, fresh=True), SETTINGS)
    assert len(reader.read) == 5


def test_run_sets_and_restores_threads():
    before, threads = torch.get_num_threads(), []
    run(evaluation(FakeReader(), threads), TASKS, RunOptions(threads=before + 1), SETTINGS)
    assert threads == [before + 1] * 5
    assert torch.get_num_threads() == before


def test_run_without_ray_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(QvggtError, match=r'pip install "qvggt\[ray\]"'):
        run(evaluation(FakeReader()), TASKS, RunOptions(engine="ray"), SETTINGS)


def test_run_options_refuse_impossible_values():
    with pytest.raises(QvggtError, match="at least one thread and one worker"):
        RunOptions(threads=0)
    with pytest.raises(QvggtError, match="'cloud'"):
        RunOptions(engine="cloud")
