"""Links between the pages, and from the README, which PyPI shows without the repository around it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/qvggt/qvggt"
IN_REPOSITORY = re.compile(
    rf"{re.escape(REPOSITORY)}/(?:blob|tree)/main/(.*)|https://raw\.githubusercontent\.com/qvggt/qvggt/main/(.*)"
)
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def links(text: str) -> list[str]:
    """Return the targets of all links and pictures outside code blocks."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def misses(page: Path, target: str) -> bool:
    """Return whether a link leads to a file or heading of the repository that does not exist."""
    found = IN_REPOSITORY.fullmatch(target)
    if target.startswith("http") and found is None:
        return False
    place, _, anchor = (found[1] or found[2] if found else target).partition("#")
    file = ((ROOT if found else page.parent) / place) if place else page
    return not file.exists() or bool(anchor and anchor not in anchors(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_into_the_repository_leads_somewhere(page):
    assert [target for target in links(page.read_text(encoding="utf-8")) if misses(page, target)] == []


def test_links_of_the_readme_are_absolute():
    targets = links((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []


def test_one_repository_is_named_everywhere():
    assert f'repository-code: "{REPOSITORY}"' in (ROOT / "CITATION.cff").read_text()
    urls = (ROOT / "pyproject.toml").read_text().partition("[project.urls]\n")[2].partition("\n\n")[0]
    assert all(re.fullmatch(rf'\w+ = "{REPOSITORY}.*"', line) for line in urls.splitlines())
    assert len(urls.splitlines()) == 4
