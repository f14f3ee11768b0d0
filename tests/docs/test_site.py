"""The site: every page has its place, and what pages name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
NAVIGATION = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]


def test_every_page_is_in_the_navigation_once():
    assert sorted(re.findall(r"[\w-]+\.md", NAVIGATION)) == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_names_that_a_page_points_to_exist(page):
    text = page.read_text()
    for path in re.findall(r"`(src/[\w/]+\.py)`", text):
        assert (ROOT / path).is_file(), path
    for name in re.findall(r"^::: (qvggt[\w.]+)$", text, re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        source = (ROOT / "src" / module.replace(".", "/")).with_suffix(".py")
        assert re.search(rf"^(def|class) {attribute}\b", source.read_text(), re.MULTILINE), name
