"""The parts of the pages that are measured, and written between markers."""

from __future__ import annotations


def replace_between(text: str, name: str, content: str) -> str:
    """Return text with what lies between ``<!-- name -->`` and ``<!-- /name -->`` replaced."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, rest = text.split(start, 1)
    return before + start + content + "\n" + end + rest.split(end, 1)[1]
