import os
import subprocess
import sys

import pytest
from weight_writing import micro_state, write_hub_cache, write_safetensors, write_shards, write_torch

COMMIT, OLDER = "a" * 40, "b" * 40
PROGRAM = """
import sys
from qvggt.model.checkpoint import open_weights
from qvggt.types import QvggtError
try:
    weights = open_weights(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    print("opened", weights.name, weights.files[0])
except QvggtError as error:
    print("refused", error)
"""


def open_from_hub(cache, hub_id, *revision, **environment):
    """Open a hub id in a fresh process, since the hub's client reads its environment when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    kept |= {"HF_HUB_CACHE": str(cache), "HF_HOME": str(cache / "home"), **environment}
    command = [sys.executable, "-c", PROGRAM, hub_id, *revision]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=120, check=True)
    assert len(done.stdout.splitlines()) == 1, done.stdout
    return done.stdout.strip()


OFFLINE = {"HF_HUB_OFFLINE": "1"}
UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # a port on which nothing listens


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return a cache with one repository for each form of weights."""
    cache = tmp_path_factory.mktemp("hub")
    write_safetensors(write_hub_cache(cache, "org/safetensors", COMMIT, ("main", "v2")) / "model.safetensors")
    write_safetensors(write_hub_cache(cache, "org/safetensors", OLDER, ("v1",)) / "model.safetensors")
    write_torch(write_hub_cache(cache, "org/only-pt", COMMIT) / "model.pt", {"model": micro_state()})
    write_shards(write_hub_cache(cache, "org/shards", COMMIT))
    (write_hub_cache(cache, "org/no-weights", COMMIT) / "config.json").write_text("{}")
    return cache


@pytest.mark.parametrize("environment", [OFFLINE, UNREACHABLE], ids=["offline", "unreachable"])
@pytest.mark.parametrize("repository", ["safetensors", "only-pt", "shards"])
def test_the_cache_serves_without_the_hub(cache, repository, environment):
    answer = open_from_hub(cache, f"org/{repository}", **environment)
    assert answer.startswith(f"opened org/{repository} ")
    assert f"/snapshots/{COMMIT}/model" in answer


@pytest.mark.parametrize(("revision", "commit"), [("main", COMMIT), ("v2", COMMIT), ("v1", OLDER), (OLDER, OLDER)])
def test_revisions_are_branches_tags_and_commits(cache, revision, commit):
    assert f"/snapshots/{commit}/" in open_from_hub(cache, "org/safetensors", revision, **OFFLINE)


@pytest.mark.parametrize(
    ("hub_id", "revision", "environment", "parts"),
    [
        ("org/absent", (), OFFLINE, ["HF_HUB_OFFLINE is set", "org/absent is not in the local cache"]),
        ("org/safetensors", ("v9",), OFFLINE, ["HF_HUB_OFFLINE is set", "revision 'v9'"]),
        ("org/no-weights", (), OFFLINE, ["org/no-weights is not in the local cache"]),
        ("org/absent", (), UNREACHABLE, ["the hub cannot be reached", "check the network"]),
    ],
)
def test_what_cannot_be_had_says_how_to_give_a_file(cache, hub_id, revision, environment, parts):
    answer = open_from_hub(cache, hub_id, *revision, **environment)
    assert answer.startswith("refused ")
    assert all(part in answer for part in [*parts, "give the path of a local .safetensors file"])


def test_a_name_that_no_repository_can_have_is_no_hub_id(cache):
    assert "a--b/c is no hub id" in open_from_hub(cache, "a--b/c", **OFFLINE)
