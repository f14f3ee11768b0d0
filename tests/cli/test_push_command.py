"""``qvggt push``, with a hub on this machine."""

import json
import os

import pytest
from commands import finish, process


def test_push__prints_the_place_and_writes_the_figures(qvggt, checkpoint, fake_hub, tmp_path):
    figures = tmp_path / "x.json"
    done = qvggt("push", checkpoint, "me/micro", "--private", "--message", "first", "--json", figures)
    assert (done.status, done.err) == (0, "")
    report = json.loads(figures.read_text())
    assert report["files"] == ["README.md", "config.json", "recipe.json", "model.safetensors"]
    assert (report["url"], report["private"], report["changed"]) == (f"{fake_hub.url}/me/micro", True, True)
    assert f"pushed 4 files, {report['bytes'] / 1e6:.1f} MB, commit {report['commit'][:8]}" in done.out
    assert f"private: {fake_hub.url}/me/micro" in done.out.splitlines()
    assert fake_hub.repositories["me/micro"].messages[-1] == "first"
    assert "nothing to do, the hub has them already" in qvggt("push", checkpoint, "me/micro").out


def test_push__revision_is_taken_by_other_commands(qvggt, checkpoint, fake_hub):
    assert qvggt("push", checkpoint, "me/micro", "--revision", "g32").status == 0
    assert "verified: the checksums of all" in qvggt("inspect", "me/micro", "--verify", "--revision", "g32").out
    assert qvggt("inspect", "me/micro").status == 1  # the main branch holds no checkpoint


def test_push__errors_are_one_sentence(refused, checkpoint, fake_hub, tmp_path, monkeypatch):
    assert "is no checkpoint" in refused("push", tmp_path, "me/micro")
    assert "expected USER/NAME" in refused("push", checkpoint, "micro")
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token for the hub" in refused("push", checkpoint, "me/micro")


@pytest.mark.process
def test_push__in_a_process_of_its_own(intact_checkpoint, fake_hub, photos, tmp_path):
    environment = {
        **os.environ, "HF_ENDPOINT": fake_hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_me",
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    done = finish(process("push", intact_checkpoint, "me/micro", env=environment))
    assert (done.status, done.err) == (0, "")
    assert f"{fake_hub.url}/me/micro" in done.out.splitlines()
    done = finish(process("reconstruct", "me/micro", photos, "-o", tmp_path / "out", env=environment))
    assert done.status == 0
    assert (tmp_path / "out" / "points.ply").exists()
