import json
import os
import subprocess
import sys

import pytest
from weight_writing import micro_state, write_hub_cache, write_safetensors, write_shards, write_torch

COMMIT, OLDER = "a" * 40, "b" * 40
OFFLINE = {"HF_HUB_OFFLINE": "1"}
UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # a port on which nothing listens

OPENED = {
    ("org/safetensors", None): COMMIT,
    ("org/safetensors", "main"): COMMIT,
    ("org/safetensors", "v2"): COMMIT,
    ("org/safetensors", "v1"): OLDER,
    ("org/safetensors", OLDER): OLDER,
    ("org/only-pt", None): COMMIT,
    ("org/shards", None): COMMIT,
    ("org/other-name", None): COMMIT,
}
REFUSED = [("org/absent", None), ("org/safetensors", "v9"), ("org/no-weights", None), ("a--b/c", None)]

PROGRAM = """
import json, sys
from qvggt.weights.open import open_weights
from qvggt.types import QvggtError
answers = []
for hub_id, revision in json.load(sys.stdin):
    try:
        answers.append(str(open_weights(hub_id, revision).files[0]))
    except QvggtError as error:
        answers.append(str(error))
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return a cache with one repository for each form of weights."""
    cache = tmp_path_factory.mktemp("hub")
    write_safetensors(write_hub_cache(cache, "org/safetensors", COMMIT, ("main", "v2")) / "model.safetensors")
    write_safetensors(write_hub_cache(cache, "org/safetensors", OLDER, ("v1",)) / "model.safetensors")
    write_torch(write_hub_cache(cache, "org/only-pt", COMMIT) / "model.pt", {"model": micro_state()})
    write_shards(write_hub_cache(cache, "org/shards", COMMIT))
    write_torch(write_hub_cache(cache, "org/other-name", COMMIT) / "model_1B_commercial.pt", {"model": micro_state()})
    (write_hub_cache(cache, "org/no-weights", COMMIT) / "config.json").write_text("{}")
    return cache


@pytest.fixture(scope="module", params=[OFFLINE, UNREACHABLE], ids=["offline", "unreachable"])
def answers(request, cache):
    """Return what became of every hub id, in a process of its own: the hub's client reads its environment at import."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    environment |= {"HF_HUB_CACHE": str(cache), "HF_HOME": str(cache / "home"), **request.param}
    asked = [*OPENED, *REFUSED]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, input=json.dumps(asked), stdout=subprocess.PIPE,
        text=True, timeout=120, check=True,
    )  # fmt: skip
    return dict(zip(asked, json.loads(done.stdout), strict=True)) | {"offline": request.param is OFFLINE}


@pytest.mark.process
@pytest.mark.parametrize("asked", OPENED, ids=str)
def test_the_cache_serves_every_form_and_revision_without_the_hub(answers, asked):
    assert f"/snapshots/{OPENED[asked]}/model" in answers[asked]


@pytest.mark.process
@pytest.mark.parametrize("asked", REFUSED[:3], ids=str)
def test_what_cannot_be_had_says_how_to_give_a_file(answers, asked):
    sentence = answers[asked]
    assert asked[0] in sentence
    assert "give the path of a local .safetensors file" in sentence
    assert ("HF_HUB_OFFLINE is set" if answers["offline"] else "the hub cannot be reached") in sentence
    assert "\n" not in sentence


@pytest.mark.process
def test_a_revision_that_is_not_cached_is_named(answers):
    assert answers["offline"] == ("at revision 'v9'" in answers["org/safetensors", "v9"])


@pytest.mark.process
def test_a_name_that_no_repository_can_have_is_no_hub_id(answers):
    assert "a--b/c is not a hub id" in answers["a--b/c", None]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stand in for the hub: what it holds, what is fetched, and what it answers with instead."""
    import huggingface_hub

    class Hub:
        files = ("model.safetensors", "model.pt", "README.md")
        fetched = ()
        error = None

    def model_info(_self, _hub_id, revision=None):
        if Hub.error:
            raise Hub.error
        return type("Info", (), {"siblings": [type("File", (), {"rfilename": name}) for name in Hub.files]})

    def snapshot_download(_hub_id, revision=None, allow_patterns=(), local_files_only=False, tqdm_class=None):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")
        Hub.fetched = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return Hub


@pytest.mark.parametrize(
    ("files", "fetched"),
    [
        (("model.safetensors", "model.pt"), {"model.safetensors"}),
        (("model.safetensors.index.json", "model-1.safetensors", "model.pt"), {"model.safetensors.index.json"}),
        (("model.pt", "README.md"), {"model.pt"}),
        (("vggt_1B_commercial.pt", "README.md", "optimizer.pt"), {"vggt_1B_commercial.pt"}),
        (("weights.safetensors", "weights.pt"), {"weights.safetensors"}),
        (("pytorch_model.bin.index.json", "a-1.bin", "a-2.bin"), {"pytorch_model.bin.index.json", "*.bin"}),
    ],
)
def test_one_form_of_the_weights_is_fetched(hub, tmp_path, files, fetched):
    from qvggt.weights.hub import download

    hub.files = files
    assert download("org/name") == tmp_path
    assert fetched <= set(hub.fetched)
    assert ("model.pt" in hub.fetched) == (fetched == {"model.pt"})


@pytest.mark.parametrize("files", [("README.md",), ("a.safetensors", "b.safetensors")])
def test_a_repository_without_one_choice_of_weights_is_refused(hub, files):
    from qvggt.types import QvggtError
    from qvggt.weights.hub import download

    hub.files = files
    with pytest.raises(QvggtError, match=r"org/name holds (no weights|several files)"):
        download("org/name")


@pytest.mark.parametrize(
    ("error", "revision", "part"),
    [
        ("GatedRepoError", None, "license.* log in"),
        ("RepositoryNotFoundError", None, "org/name is not on the hub, or it is private"),
        ("RevisionNotFoundError", "v3", "org/name has no revision 'v3'"),
        ("HfHubHTTPError", None, "the hub cannot be reached"),
    ],
)
def test_each_answer_of_the_hub_has_its_sentence(hub, error, revision, part):
    from huggingface_hub import errors

    from qvggt.types import QvggtError
    from qvggt.weights.hub import download

    kind = getattr(errors, error)
    hub.error = kind.__new__(kind)  # building one takes a response of the network library
    with pytest.raises(QvggtError, match=part):
        download("org/name", revision)


def test_a_download_reports_the_share_of_its_bytes(hub, monkeypatch, tmp_path, capsys):
    import huggingface_hub

    from qvggt.weights.hub import download

    def snapshot_download(_hub_id, revision=None, allow_patterns=(), tqdm_class=None):
        files = tqdm_class(total=2, desc="Fetching 2 files")
        data = tqdm_class(total=0, unit="B", unit_scale=True)
        data.total += 200
        for _ in range(2):
            data.update(100)
            files.update()
        data.close()
        files.close()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    seen = []
    download("org/name", None, lambda stage, share: seen.append((stage, share)))
    assert seen == [("downloading org/name", 0.5), ("downloading org/name", 1.0)]
    assert capsys.readouterr().err == ""
