"""What the library computes does not depend on torch's default dtype and device, which belong to the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qvggt

SCRIPT = Path(__file__).with_name("defaults_run.py")
pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Return a function that gives what a process with some default dtype or device computes."""
    checkpoint = tmp_path_factory.mktemp("defaults") / "nano-4bit"
    qvggt.save(qvggt.quantize("nano"), checkpoint)

    def run(kind, value, method="gptq"):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(SCRIPT.parents[1]), *sys.path))}
        command = [sys.executable, SCRIPT, kind, value, checkpoint, method]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def usual(answers):
    return answers("dtype", "float32")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("dtype", "float16"),
        pytest.param("dtype", "bfloat16", marks=pytest.mark.slow),
        pytest.param("dtype", "float64", marks=pytest.mark.slow),
        ("device", "meta"),
    ],
)
def test_defaults_of_the_process_change_nothing(answers, usual, kind, value):
    assert answers(kind, value) == usual


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "value"), [("dtype", "float16"), ("device", "meta")])
def test_defaults_of_the_process_change_no_tuning(answers, kind, value):
    assert answers(kind, value, "qvggt+") == answers("dtype", "float32", "qvggt+")
