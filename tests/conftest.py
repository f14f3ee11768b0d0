import os

import hypothesis
import pytest

from golden.make_golden import GOLDEN
from reference import REFERENCE, load_golden


@pytest.fixture(scope="session")
def golden():
    """Return a tiny model and what it must answer: as recorded where that is at hand, else as the repository has it."""
    recorded = REFERENCE / "tiny.safetensors"
    return load_golden(recorded if recorded.is_file() else GOLDEN)


# Where CI runs, a change is judged by the same examples every time; elsewhere every run looks for new ones.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")
