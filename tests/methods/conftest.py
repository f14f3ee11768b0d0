import pytest

from quantizing import MODEL, SMALL, small_model


@pytest.fixture(scope="session")
def small():
    """Return the small float model; tests must not change it."""
    return small_model()


@pytest.fixture
def named_small(monkeypatch):
    """Let the small model be found by name."""
    monkeypatch.setitem(checkpoint_presets(), MODEL.removeprefix("seeded:"), lambda: SMALL)
    return MODEL


def checkpoint_presets():
    from qvggt.weights.open import PRESETS

    return PRESETS
