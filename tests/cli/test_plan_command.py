"""``qvggt plan``, and ``--memory`` of ``qvggt reconstruct``."""

import json
import os
import subprocess
import sys

import pytest
from commands import MODEL

from qvggt.cli.show import size_bytes
from qvggt.inference.memory_sums import LIBRARY_BYTES
from qvggt.types import QvggtError
from qvggt.weights.pretrained import sample_images

FULL = ("seeded:vggt-1b", "--frames", 30)


def test_plan_prints_and_writes_every_stage(qvggt, tmp_path):
    done = qvggt("plan", "seeded:vggt-1b", "--frames", 8, "--compute", "float32", "--json", tmp_path / "x.json")
    assert (done.status, done.err) == (0, "")
    values = json.loads((tmp_path / "x.json").read_text())
    assert [stage["stage"] for stage in values["stages"]] == [
        "patch embedding", "frame attention", "global attention", "reading pairs", "depth maps", "points",
    ]  # fmt: skip
    assert all(stage["stage"] in done.out for stage in (*values["stages"], values["writing"]))
    assert 4.7e9 < values["weight_bytes"] < 4.8e9
    held = values["program_bytes"] + values["weight_bytes"] + values["working_bytes"]
    assert values["peak_bytes"] == held + max(stage["total"] for stage in values["stages"])
    assert values["writing_bytes"] == values["program_bytes"] + LIBRARY_BYTES + values["writing"]["total"]
    assert f"peak {values['peak_bytes'] / 1e9:.2f} GB with chunks of 1536 tokens" in done.out


def test_plan_of_images_takes_their_number_and_size(qvggt, photos, tmp_path):
    def planned(*arguments):
        assert qvggt("plan", MODEL, *arguments, "--json", tmp_path / "x.json").status == 0
        return json.loads((tmp_path / "x.json").read_text())

    values = planned(photos)
    assert (values["size"]["frames"], values["stages"][0]["stage"]) == (2, "reading images")
    assert planned(photos, "--frames", 1)["size"]["frames"] == 1
    given = planned("--frames", 2)
    assert given["stages"] == values["stages"][1:]
    assert "--size" in qvggt("plan", MODEL, photos, "--size", 28).sentence


def test_plan_of_less_memory_and_of_windows(qvggt, tmp_path):
    def peak(*arguments):
        assert qvggt("plan", *FULL, *arguments, "--json", tmp_path / "x.json").status == 0
        return json.loads((tmp_path / "x.json").read_text())["peak_bytes"]

    free, windows = peak(), peak("--window", 4)
    assert windows < free
    close = peak("--memory", f"{free // 10**6}MB")
    tight = qvggt("plan", *FULL, "--memory", f"{(close - 3 * 10**7) // 10**6}MB")
    assert tight.status == 0
    assert "chunks of 1536 tokens" not in tight.out
    assert "camera" in qvggt("plan", *FULL, "--window", 4, "--heads", "depth").sentence
    assert "--window" in qvggt("plan", *FULL, "--memory", f"{windows // 10**6 + 9}MB").sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", 100], "patches of 14 px"),
        (["--size", 28, 28, 28], "a width and a height"),
        (["--frames", 0], "at least 1"),
        (["--max-points", 0], "at least 1"),
        (["--window", 0], "at least 2"),
        (["--memory", "much"], "invalid size"),
    ],
)
def test_plan_refuses_what_cannot_be(qvggt, arguments, sentence):
    assert sentence in qvggt("plan", MODEL, *arguments).sentence


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the process keeps what it frees")
@pytest.mark.parametrize(
    ("frames", "limit"),
    [
        (8, ()),
        *(
            pytest.param(frames, limit, marks=pytest.mark.slow)
            for frames, limit in [(2, ()), (8, ("--memory", "470MB"))]
        ),
    ],
)
def test_the_peak_of_the_whole_command_is_within_5_percent_of_the_plan(tmp_path, frames, limit):
    def figures(*command):
        images = sample_images()[0].parent
        line = [sys.executable, "-m", "qvggt", command[0], "nano", images, "--frames", frames, *limit, *command[1:]]
        line = [*map(str, line), "--json", str(tmp_path / f"{command[0]}.json")]
        subprocess.run(line, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return json.loads((tmp_path / f"{command[0]}.json").read_text())

    planned = figures("plan")
    found = figures("reconstruct", "-o", tmp_path / "out")
    assert planned["peak_bytes"] == planned["writing_bytes"]
    assert found["peak_memory_bytes"] == pytest.approx(planned["peak_bytes"], rel=0.05)


def test_reconstruct_obeys_or_refuses(qvggt, photos, tmp_path):
    done = qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "a", "--memory", "20GB", "--compute", "float32")
    assert (done.status, done.err) == (0, "")
    for size, sentence in (("1MB", "memory limit"), ("4 parsecs", "invalid size")):
        assert sentence in qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "b", "--memory", size).sentence
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(("text", "expected"), [("1000", 1000), ("2kB", 2000), (" 1 kiB ", 1024), (".5G", 500_000_000)])
def test_sizes_in_words(text, expected):
    assert size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0GB", "-1GB", "4GBs", "GB", "1e9", "nan"])
def test_what_is_no_size(text):
    with pytest.raises(QvggtError, match="invalid size"):
        size_bytes(text)
