import json
import signal
import time

import pytest
from commands import MODEL, contents, draw, finish, process

from qvggt.export.result import open_result


@pytest.fixture
def captures(tmp_path):
    """Return a folder with two scenes of two photographs."""
    for name in ("garden", "kitchen"):
        for index in range(2):
            draw(tmp_path / "captures" / name / f"{index}.png", index + len(name))
    return tmp_path / "captures"


@pytest.fixture
def batch(qvggt, captures, tmp_path):
    """Return a function that reconstructs the scenes with two kinds of files, which is quick."""

    def run(*arguments):
        return qvggt(
            "reconstruct", MODEL, "--scenes", captures / "*", "-o", tmp_path / "out",
            "--files", "prediction.npz", "cameras.json", *arguments,
        )  # fmt: skip

    return run


def rows(out):
    """Return the lines of the table as words."""
    return [line.split() for line in out.splitlines() if line.startswith(" ")][1:]


def test_scenes_get_a_folder_each_as_reconstruct_writes_it(batch, qvggt, captures, tmp_path):
    done = batch("--json", tmp_path / "figures.json")
    assert done.status == 0, done.err
    assert [row[:3] for row in rows(done.out)] == [["garden", "2", "56x56"], ["kitchen", "2", "56x56"]]
    alone = tmp_path / "alone"
    assert qvggt("reconstruct", MODEL, captures / "kitchen", "-o", alone).status == 0
    for name in ("prediction.npz", "cameras.json"):
        assert (tmp_path / "out" / "kitchen" / name).read_bytes() == (alone / name).read_bytes()
    assert not (tmp_path / "out" / "kitchen" / "points.ply").exists()
    assert open_result(tmp_path / "out" / "kitchen").info.images == (str(captures / "kitchen"),)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [scene["frames"] for scene in figures["scenes"]] == [2, 2]
    assert all(scene["seconds"] > 0 for scene in figures["scenes"])
    assert figures["peak_memory_bytes"] > 0
    summary = json.loads((tmp_path / "out" / "scenes.json").read_text())
    assert [scene["name"] for scene in summary["scenes"]] == ["garden", "kitchen"]
    assert "seconds" not in summary["scenes"][0]


def test_scenes_fail_alone_and_the_exit_status_says_so(batch, captures, tmp_path):
    (captures / "empty").mkdir()
    done = batch()
    assert done.status == 1
    assert [row[0] for row in rows(done.out)] == ["empty", "garden", "kitchen"]
    assert rows(done.out)[0][-1] == "failed"
    *_, why, total = done.err.splitlines()
    assert why.startswith("qvggt: empty: the folder")
    assert total == f"qvggt: 1 of 3 scenes failed; the others are in {tmp_path / 'out'}"
    assert (tmp_path / "out" / "kitchen" / "result.json").exists()
    assert not (tmp_path / "out" / "empty").exists()


def test_scenes_that_are_finished_are_kept(batch, tmp_path):
    assert batch().status == 0
    before = contents(tmp_path / "out")
    done = batch()
    assert (done.status, [row[3] for row in rows(done.out)]) == (0, ["kept", "kept"])
    assert contents(tmp_path / "out") == before
    assert batch("--overwrite", "--dense-frames", "1", "--memory", "4GB").status == 0  # the same results
    assert contents(tmp_path / "out") == before


def test_scenes_notice_changed_photographs(batch, captures, tmp_path):
    assert batch().status == 0
    before = contents(tmp_path / "out" / "garden")
    draw(captures / "garden" / "1.png", 77)
    done = batch()
    assert done.status == 1
    assert "garden holds a result of other photographs" in done.err
    assert "--overwrite" in done.err
    assert contents(tmp_path / "out" / "garden") == before
    done = batch("--overwrite")
    assert (done.status, rows(done.out)[1][3]) == (0, "kept")
    assert rows(done.out)[0][3] != "kept"
    assert contents(tmp_path / "out" / "garden") != before


def test_scenes_notice_other_options_and_missing_files(batch, tmp_path):
    assert batch().status == 0
    assert "kitchen holds a result of other model or options" in batch("--drop-percent", "50").err
    (tmp_path / "out" / "kitchen" / "cameras.json").unlink()
    assert "kitchen holds an incomplete result" in batch().err
    assert batch("--overwrite").status == 0
    assert (tmp_path / "out" / "kitchen" / "cameras.json").exists()


def test_scenes_leave_folders_of_the_user_alone(batch, tmp_path):
    (tmp_path / "out" / "garden").mkdir(parents=True)
    (tmp_path / "out" / "garden" / "diary.txt").touch()
    done = batch()
    assert done.status == 1
    assert "garden exists already" in done.err
    assert [path.name for path in (tmp_path / "out" / "garden").iterdir()] == ["diary.txt"]
    assert (tmp_path / "out" / "kitchen" / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{captures}/garden", "--scenes", "{captures}/*"], "IMAGES can hold for one scene only"),
        (["--scenes", "{captures}/*", "--masks", "{captures}"], "--masks can hold for one scene only"),
        (["--scenes", "{captures}/*", "--view"], "--view can hold for one scene only"),
        (["--scenes", "{captures}/*", "--scale", "a:b=1m"], "--scale .* can hold for one scene only"),
        (["--scenes", "{captures}/none*"], "nothing matches"),
        (["{captures}/garden", "--ray", "auto"], "name them (--scenes)"),
        (["--scenes", "{captures}/*", "--workers", "2"], "need a Ray cluster"),
        (["--scenes", "{captures}/*", "--threads", "0"], "threads must be at least 1"),
        ([], "no images given"),
    ],
)
def test_scenes_refuse_what_holds_for_one(refused, captures, tmp_path, arguments, words):
    filled = [argument.format(captures=captures) for argument in arguments]
    sentence = refused("reconstruct", MODEL, *filled, "-o", tmp_path / "out")
    assert all(part in sentence for part in words.split(" .* "))


def test_scenes_of_a_missing_model_leave_nothing_behind(refused, captures, tmp_path):
    assert "nonesuch" in refused("reconstruct", "nonesuch.pt", "--scenes", captures / "*", "-o", tmp_path / "out")


@pytest.mark.process
def test_scenes_are_kept_by_ctrl_c(captures, tmp_path):
    for index in range(100):
        draw(captures / "long" / f"{index}.png")
    command = ["reconstruct", "seeded:nano", "--scenes", captures / "*", "-o", tmp_path / "out", "--files",
               "prediction.npz", "cameras.json"]  # fmt: skip
    running = process(*command)
    deadline = time.monotonic() + 100
    while not list((tmp_path / "out").glob(".long.*.qvggt-staging")):
        assert running.poll() is None, finish(running)
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    done = finish(running)
    assert done.status == 130
    assert "2 finished scenes kept" in done.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["garden", "kitchen"]
