import pytest

from golden.make_golden import GOLDEN
from reference import REFERENCE, load_golden


@pytest.fixture(scope="session")
def golden():
    """Return a tiny model and what it must answer: as recorded where that is at hand, else as the repository has it."""
    recorded = REFERENCE / "tiny.safetensors"
    return load_golden(recorded if recorded.is_file() else GOLDEN)
