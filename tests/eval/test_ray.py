"""Ray in local mode with two workers: the digits of one process, whatever dies."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from qvggt.api.reconstruct import load
from qvggt.eval.evaluators import Meter, model_meter
from qvggt.eval.plan import make_plan
from qvggt.eval.results import SceneResult
from qvggt.eval.runner import run
from qvggt.eval.work import Work
from qvggt.options import ImageOptions, RunOptions, Selection
from qvggt.types import QvggtError, Scene

ray = pytest.importorskip("ray")

PLAN = make_plan("rooms", "val", (), Selection(scenes=5))
WORK = Work(PLAN.reader, ImageOptions(56, 14), partial(model_meter, partial(load, "seeded:micro"), PLAN.protocols))
SETTINGS = {**PLAN.settings()}
OPTIONS = RunOptions(engine="ray", workers=2)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    # Workers find the functions of this file by the file's folder.
    environment = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}
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
    return run(WORK, PLAN.jobs, RunOptions(), SETTINGS)


def mortal_meter(make: partial, victim: str, deaths: Path, times: int) -> Meter:
    """Kill the process that measures ``victim``, so many times."""
    meter = make()

    def measure(scene: Scene) -> SceneResult:
        before = len(list(deaths.iterdir()))
        if scene.name == victim and before < times:
            (deaths / str(before)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return meter(scene)

    return measure


def missing_model() -> Meter:
    raise QvggtError("the model is missing: check its path")


def with_meter(make) -> Work:
    return Work(WORK.reader, WORK.images, make)


def test_workers_give_the_digits_of_one_process_and_share_its_store(alone, tmp_path):
    options = RunOptions(tmp_path, engine="ray", workers=2)
    assert run(WORK, PLAN.jobs, options, SETTINGS) == alone
    assert run(with_meter(missing_model), PLAN.jobs, RunOptions(tmp_path), SETTINGS) == alone


def test_a_killed_worker_loses_nothing(alone, tmp_path):
    victim = PLAN.jobs[1].record.name
    mortal = with_meter(partial(mortal_meter, WORK.make_meter, victim, tmp_path, 1))
    assert run(mortal, PLAN.jobs, OPTIONS, SETTINGS) == alone
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_a_scene_that_kills_every_worker_is_named(tmp_path):
    victim = PLAN.jobs[0].record.name
    mortal = with_meter(partial(mortal_meter, WORK.make_meter, victim, tmp_path, 99))
    with pytest.raises(QvggtError, match=f"3 workers died on scene {victim}"):
        run(mortal, PLAN.jobs[:1], OPTIONS, SETTINGS)


def test_the_sentence_of_a_worker_reaches_the_user():
    with pytest.raises(QvggtError, match=r"^the model is missing: check its path$"):
        run(with_meter(missing_model), PLAN.jobs[:1], OPTIONS, SETTINGS)
