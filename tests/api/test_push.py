"""Checkpoints to the hub and back, with a hub on this machine."""

import json
import logging
import os
import shutil

import pytest

import qvggt
from fake_hub import Repository
from qvggt.checkpoint.folder import CARD, open_checkpoint
from qvggt.checkpoint.open import open_model
from qvggt.types import QvggtError

FILES = ("config.json", "model.safetensors", "recipe.json")
OPTIONS = qvggt.QuantizeOptions(scheme=qvggt.Scheme(4, 32))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a checkpoint that is only read."""
    folder = tmp_path_factory.mktemp("made") / "micro-4bit"
    qvggt.quantize_to("seeded:micro", folder, options=OPTIONS)
    return folder


@pytest.fixture
def checkpoint(made, tmp_path):
    """Return a checkpoint that a test may change."""
    return shutil.copytree(made, tmp_path / "micro-4bit")


def widen(folder):
    """Write a checkpoint of 8 bits into the same folder."""
    options = qvggt.QuantizeOptions(scheme=qvggt.Scheme(8, 32))
    qvggt.quantize_to("seeded:micro", folder, options=options, overwrite=True)


def test_push__then_load_gives_the_same_model(checkpoint, fake_hub):
    report = qvggt.push(checkpoint, "me/micro")
    assert report.url == f"{fake_hub.url}/me/micro"
    assert (report.changed, report.private) == (True, False)
    assert fake_hub.repositories["me/micro"].branches["main"] == report.commit
    opened = open_model("me/micro")
    assert opened.folder.name == report.commit
    assert opened.hash() == open_checkpoint(checkpoint).hash()
    assert opened.verify() == open_checkpoint(checkpoint).verify()
    stored = fake_hub.files("me/micro")
    for name in FILES:
        assert (opened.folder / name).read_bytes() == (checkpoint / name).read_bytes() == stored[name]
    assert qvggt.load("me/micro").recipe == qvggt.load(checkpoint).recipe
    assert report.bytes == sum(map(len, stored.values()))


def test_push__uploads_the_checkpoints_files_only(checkpoint, fake_hub):
    (checkpoint / "photo.jpg").write_bytes(b"mine")
    (checkpoint / ".env").write_text("SECRET=1")
    (checkpoint / "deep").mkdir()
    (checkpoint / "deep" / "config.json").write_text("{}")
    manifest = json.loads((checkpoint / ".qvggt-manifest.json").read_text())
    (checkpoint / ".qvggt-manifest.json").write_text(json.dumps({**manifest, "files": [*manifest["files"], ".env"]}))
    report = qvggt.push(checkpoint, "me/micro")
    assert set(fake_hub.files("me/micro")) == set(report.files) == {*FILES, CARD}


def test_push__leaves_the_repositorys_own_files(checkpoint, fake_hub):
    fake_hub.repositories["me/micro"] = Repository(False)
    fake_hub.repositories["me/micro"].commit("main", {"samples/a.jpg": b"a"}, "a sample")
    qvggt.push(checkpoint, "me/micro", message="four bits")
    assert set(fake_hub.files("me/micro")) == {*FILES, CARD, "samples/a.jpg"}
    assert fake_hub.repositories["me/micro"].messages[-1] == "four bits"
    assert open_model("me/micro").recipe is not None


def test_push__card_names_the_repository_and_keeps_what_the_user_wrote(checkpoint, fake_hub):
    (checkpoint / CARD).write_text((checkpoint / CARD).read_text() + "\n## My notes\n")
    before = (checkpoint / CARD).read_bytes()
    qvggt.push(checkpoint, "me/micro")
    card = fake_hub.files("me/micro")[CARD].decode()
    assert 'qvggt.load("me/micro")' in card
    assert "qvggt reconstruct me/micro photos/" in card
    assert "USER/NAME" not in card
    assert "## My notes" in card
    assert (checkpoint / CARD).read_bytes() == before


def test_push__makes_a_card_for_checkpoints_without_one(checkpoint, fake_hub):
    (checkpoint / CARD).unlink()
    qvggt.push(checkpoint, "me/micro")
    assert b"library_name: qvggt" in fake_hub.files("me/micro")[CARD]
    assert not (checkpoint / CARD).exists()


def test_push__reminds_of_an_unknown_license(checkpoint, fake_hub, caplog):
    card = (checkpoint / CARD).read_text()
    (checkpoint / CARD).write_text(card.replace("license: apache-2.0", "license: unknown"))
    with caplog.at_level(logging.WARNING, "qvggt"):
        qvggt.push(checkpoint, "me/micro")
    assert "states no license" in caplog.text
    (checkpoint / CARD).write_text(card.replace("license: apache-2.0", "license: mine"))
    with pytest.raises(QvggtError, match=r"the hub refuses the checkpoint: Invalid metadata in README.md"):
        qvggt.push(checkpoint, "me/micro")


def test_push__again_changes_nothing(checkpoint, fake_hub):
    first = qvggt.push(checkpoint, "me/micro")
    stored = fake_hub.requests["store"]
    again = qvggt.push(checkpoint, "me/micro")
    assert (again.changed, again.commit) == (False, first.commit)
    assert (fake_hub.requests["store"], fake_hub.requests["commit"]) == (stored, 1)


def test_push__revisions_are_branches_and_commits(checkpoint, fake_hub):
    first = qvggt.push(checkpoint, "me/micro")
    four = open_checkpoint(checkpoint).hash()
    widen(checkpoint)
    second = qvggt.push(checkpoint, "me/micro", revision="int8/wide")
    assert second.url == f"{fake_hub.url}/me/micro/tree/int8%2Fwide"
    eight = open_checkpoint(checkpoint).hash()
    assert open_model("me/micro").hash() == four
    for revision, expected in (("int8/wide", eight), (second.commit, eight), (first.commit, four), ("main", four)):
        assert open_model("me/micro", revision).hash() == expected
    third = qvggt.push(checkpoint, "me/micro")
    assert (third.changed, open_model("me/micro").hash()) == (True, eight)
    with pytest.raises(QvggtError, match="no revision 'v9'"):
        open_model("me/micro", "v9")


def test_push__private_models_need_a_token(checkpoint, fake_hub, monkeypatch):
    assert qvggt.push(checkpoint, "me/secret", private=True).private
    assert qvggt.push(checkpoint, "me/secret").private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(QvggtError, match=r"me/secret is not on the hub, or it is private.*log in"):
        qvggt.load("me/secret")
    monkeypatch.setenv("HF_TOKEN", "read_me")
    assert open_model("me/secret").verify() > 0


def test_push__does_not_publish_what_is_meant_to_be_private(checkpoint, fake_hub):
    fake_hub.repositories["me/open"] = Repository(False)
    fake_hub.repositories["me/open"].commit("main", {"a": b""}, "first")
    with pytest.raises(QvggtError, match=r"me/open is on the hub already, and public.*--private"):
        qvggt.push(checkpoint, "me/open", private=True)
    assert set(fake_hub.files("me/open")) == {"a"}


@pytest.mark.parametrize(
    ("token", "place", "words"),
    [
        (None, "me/micro", "there is no token for the hub: log in with `hf auth login`, or set HF_TOKEN"),
        ("hf_forged", "me/micro", "does not accept the token"),
        ("read_me", "me/micro", "the token may not write to me/micro"),
        ("hf_you", "me/micro", "the token may not write to me/micro"),
        ("hf_me", "micro", "expected USER/NAME"),
        ("hf_me", "me/a--b", "is not a name on the hub"),
    ],
)
def test_push__says_what_the_token_lacks(checkpoint, fake_hub, monkeypatch, token, place, words):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(QvggtError, match=words):
        qvggt.push(checkpoint, place)
    assert fake_hub.repositories == {}


def test_push__refuses_what_is_not_whole(checkpoint, fake_hub, tmp_path):
    with pytest.raises(QvggtError, match="is no checkpoint"):
        qvggt.push(tmp_path, "me/micro")
    shutil.copytree(checkpoint, tmp_path / "begun.unfinished")
    (tmp_path / "begun.unfinished" / "recipe.json").unlink()
    for name in ("begun", "begun.unfinished"):
        with pytest.raises(QvggtError, match=r"begun is an unfinished quantization: .*--resume"):
            qvggt.push(tmp_path / name, "me/micro")
    data = bytearray((checkpoint / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (checkpoint / "model.safetensors").write_bytes(data)
    with pytest.raises(QvggtError, match=r"1 of .* tensors in .* are damaged"):
        qvggt.push(checkpoint, "me/micro")
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(QvggtError, match=r"model\.safetensors"):
        qvggt.push(checkpoint, "me/micro")
    assert (fake_hub.repositories, fake_hub.requests) == ({}, {})


def test_push__waits_for_no_one_who_writes(checkpoint, fake_hub):
    from qvggt.files import lock_folder

    with lock_folder(checkpoint), pytest.raises(QvggtError, match="another command is writing"):
        qvggt.push(checkpoint, "me/micro")
    assert fake_hub.requests == {}


def test_push__from_a_folder_that_cannot_be_written(checkpoint, fake_hub, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert qvggt.push(checkpoint, "me/micro").changed


@pytest.mark.parametrize("kind", ["store", "batch", "preupload"])
def test_push__the_client_tries_again_after_short_failures(checkpoint, fake_hub, kind):
    fake_hub.failing[kind] = 2
    qvggt.push(checkpoint, "me/micro")
    assert open_model("me/micro").hash() == open_checkpoint(checkpoint).hash()


@pytest.mark.parametrize("kind", ["whoami", "create", "store", "commit"])
def test_push__goes_on_after_it_was_cut_off(checkpoint, fake_hub, kind):
    fake_hub.failing[kind] = 99
    with pytest.raises(QvggtError, match=r"the upload to me/micro was cut off \(.+\): give the same command again"):
        qvggt.push(checkpoint, "me/micro")
    assert "me/micro" not in fake_hub.repositories or fake_hub.files("me/micro") == {}
    arrived = len(fake_hub.large)
    fake_hub.failing.clear()
    fake_hub.requests.clear()
    qvggt.push(checkpoint, "me/micro")
    assert fake_hub.requests["store"] == 1 - arrived
    assert arrived == (kind == "commit")
    assert open_model("me/micro").hash() == open_checkpoint(checkpoint).hash()


def test_load__goes_on_after_a_download_was_cut_off(checkpoint, fake_hub):
    qvggt.push(checkpoint, "me/micro")
    fake_hub.failing["resolve"] = 99
    with pytest.raises(QvggtError, match="me/micro cannot be downloaded"):
        open_model("me/micro")
    fake_hub.failing.clear()
    assert open_model("me/micro").verify() > 0


def test_push__offline(checkpoint, fake_hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(QvggtError, match=r"HF_HUB_OFFLINE is set.*unset it"):
        qvggt.push(checkpoint, "me/micro")


def test_push__reports_its_stages_and_prints_nothing(checkpoint, fake_hub, capfd):
    stages = []
    qvggt.push(checkpoint, "me/micro", on_progress=lambda stage, share: stages.append(stage))
    assert [stage.partition(" ")[0] for stage in stages] == ["comparing", "asking", "uploading", "done"]
    assert capfd.readouterr() == ("", "")
