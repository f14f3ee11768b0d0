import copy
import os
from collections.abc import Callable

import hypothesis
import pytest
import torch

from golden.make_golden import seeded_model
from qvggt.calibration.data import SceneBatch
from qvggt.model import VGGTConfig
from qvggt.types import Prediction
from raycast_room import make_room
from reference import load_golden


@pytest.fixture(scope="session")
def golden():
    """Return a tiny model and the outputs that the published implementation gave."""
    return load_golden()


@pytest.fixture(scope="session")
def micro():
    """Return the micro model on stand-in weights; tests must not change it."""
    return seeded_model(VGGTConfig.micro())


@pytest.fixture
def model(micro):
    """Return a copy of the micro model that a test may change."""
    return copy.deepcopy(micro)


@pytest.fixture(scope="session")
def batches():
    """Return two batches of other numbers of scenes and frames and other sizes, without truth."""
    generator = torch.Generator().manual_seed(1)
    return (
        SceneBatch(torch.rand(2, 2, 3, 28, 42, generator=generator)),
        SceneBatch(torch.rand(1, 3, 3, 42, 28, generator=generator)),
    )


# Where CI runs, a change is judged by the same examples every time; elsewhere every run looks for new ones.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session")
def room() -> Prediction:
    """Return four small pictures of the room."""
    return make_room()


@pytest.fixture(scope="session")
def room_factory() -> Callable[..., Prediction]:
    """Return ``make_room``."""
    return make_room


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    """Return a hub on this machine, which the hub's client asks with the token of the user ``me``."""
    from huggingface_hub import constants

    from fake_hub import serve

    hub, server = serve()
    values = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        "HF_HUB_DISABLE_XET": True,  # a protocol with servers of its own
        "HF_HUB_OFFLINE": False,
    }
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "hf_me")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    yield hub
    server.shutdown()
    server.server_close()
