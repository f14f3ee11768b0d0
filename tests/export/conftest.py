"""Fixtures of the exporters' tests."""

import pytest

from qvggt.export import overview, scene_views, sheet


@pytest.fixture
def coarse_pages(monkeypatch):
    """Draw pages with a quarter of the usual pixels per inch, where their pixels do not matter."""
    for module in (overview, scene_views, sheet):
        monkeypatch.setattr(module, "DPI", 30)
