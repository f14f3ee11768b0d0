"""Ray in local mode with two workers: the digits of one process, whatever dies."""

import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from qvggt.api.reconstruct import load
from qvggt.eval.evaluators import Evaluator, model_evaluator
from qvggt.eval.plan import plan_evaluation
from qvggt.eval.results import SceneResult
from qvggt.eval.run import EvaluationPass, run
from qvggt.options import ImageOptions, RunOptions, Selection
from qvggt.types import QvggtError, Scene

pytestmark = pytest.mark.ray
ray = pytest.importorskip("ray")

PLAN = plan_evaluation("rooms", "val", (), Selection(scenes=3))
PASS = EvaluationPass(
    PLAN.reader, ImageOptions(56, 14), partial(model_evaluator, partial(load, "seeded:micro"), PLAN.protocols)
)
SETTINGS = {**PLAN.settings()}
OPTIONS = RunOptions(engine="ray", workers=2)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    # Workers import the functions of this file from its folder, and qvggt from wherever this process has it.
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {"env_vars": {"PYTHONPATH": path}}
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        runtime_env=environment,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def alone():
    return run(PASS, PLAN.tasks, RunOptions(), SETTINGS)


def mortal_evaluator(make: partial, victim: str, deaths: Path, times: int) -> Evaluator:
    """Kill the process that measures ``victim``, so many times."""
    evaluator = make()

    def measure(scene: Scene) -> SceneResult:
        before = len(list(deaths.iterdir()))
        if scene.name == victim and before < times:
            (deaths / str(before)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return evaluator(scene)

    return measure


def missing_model() -> Evaluator:
    raise QvggtError("the model is missing: check its path")


def with_evaluator(make) -> EvaluationPass:
    return EvaluationPass(PASS.reader, PASS.images, make)


def test_run_ray_survives_a_killed_worker_with_the_digits_and_the_store_of_one_process(alone, tmp_path):
    deaths, store = tmp_path / "deaths", tmp_path / "store"
    deaths.mkdir()
    victim = PLAN.tasks[1].record.name
    mortal = with_evaluator(partial(mortal_evaluator, PASS.make_evaluator, victim, deaths, 1))
    assert run(mortal, PLAN.tasks, replace(OPTIONS, store=store), SETTINGS) == alone
    assert len(list(deaths.iterdir())) == 1
    assert run(with_evaluator(missing_model), PLAN.tasks, RunOptions(store), SETTINGS) == alone


@pytest.mark.slow
def test_run_ray_names_a_scene_that_kills_every_worker(tmp_path):
    victim = PLAN.tasks[0].record.name
    mortal = with_evaluator(partial(mortal_evaluator, PASS.make_evaluator, victim, tmp_path, 99))
    with pytest.raises(QvggtError, match=f"scene {victim}: 3 workers died"):
        run(mortal, PLAN.tasks[:1], OPTIONS, SETTINGS)


@pytest.mark.slow
def test_run_ray_raises_the_error_of_a_worker():
    with pytest.raises(QvggtError, match=r"^the model is missing: check its path$"):
        run(with_evaluator(missing_model), PLAN.tasks[:1], replace(OPTIONS, workers=1), SETTINGS)
