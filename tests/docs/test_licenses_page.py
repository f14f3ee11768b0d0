"""The page of licenses says what model cards say."""

from pathlib import Path

from qvggt.weights.licenses import LICENSES

PAGE = Path(__file__).parents[2] / "docs" / "licenses.md"


def test_the_table_is_that_of_the_cards():
    text = PAGE.read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.partition("\n\n## ")[0].splitlines() if line[:1] == "|"]
    assert [row[0].partition(" (")[0] for row in rows[2:]] == [each.subject for each in LICENSES]
    for row, each in zip(rows[2:], LICENSES, strict=True):
        assert row[1:4] == [each.name, each.commercial, each.terms]
        assert row[4] == (f"[original]({each.original})" if each.original else "where you got them")
    assert all(f"`{name}" in text for each in LICENSES for name in each.models)
