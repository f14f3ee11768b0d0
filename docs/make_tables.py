"""Make the tables of the pages again, by the commands that the pages name.

    python docs/make_tables.py [--only TEXT] [--list] [--again]

A line ``<!-- table: COMMAND -->`` in a page names the command that prints the table below it, or of several tables
``<!-- table 2: COMMAND -->`` the second; ``&&`` joins commands that need each other. What a command printed is kept in
``out/tables``, so that a second run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRINTED = ROOT / "out" / "tables"
MARK = re.compile(r"^<!-- table( \d+)?: (.+) -->$")


def main() -> None:
    """Run the commands that were asked for, and replace their tables as soon as they are known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="commands with this text, or pages of this name")
    parser.add_argument("--list", action="store_true", help="only say what would run")
    parser.add_argument("--again", action="store_true", help="also run what has run before")
    options = parser.parse_args()
    pages = {page: commands_of(page.read_text(encoding="utf-8")) for page in sorted((ROOT / "docs").glob("*.md"))}
    asked = [(page, each) for page, some in pages.items() for each in some if options.only in f"{page.name} {each}"]
    for page, command in asked:
        sys.stdout.write(f"{page.name}: {command}\n")
        sys.stdout.flush()
        if not options.list:
            tables = tables_of(output_of(command, options.again))
            page.write_text(with_tables(page.read_text(encoding="utf-8"), command, tables), encoding="utf-8")


def commands_of(text: str) -> list[str]:
    """Return the commands of a page, each once."""
    return list(dict.fromkeys(found[2] for line in text.splitlines() if (found := MARK.match(line))))


def output_of(command: str, again: bool) -> str:
    """Return what a command prints, or has printed before.

    Raises:
        SystemExit: it fails.
    """
    kept = PRINTED / f"{hashlib.sha256(command.encode()).hexdigest()[:16]}.txt"
    if kept.exists() and not again:
        return kept.read_text(encoding="utf-8")
    printed = ""
    for part in command.split(" && "):
        name, *words = shlex.split(part)
        ran = [sys.executable, *(["-m", "qvggt"] if name == "qvggt" else []), *words]
        done = subprocess.run(ran, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{part!r} ended with status {done.returncode}")
        printed += done.stdout
    PRINTED.mkdir(parents=True, exist_ok=True)
    kept.write_text(printed, encoding="utf-8")
    return printed


def tables_of(printed: str) -> list[list[str]]:
    """Return the tables, each as its lines, that a command printed."""
    return [list(lines) for row, lines in groupby(printed.splitlines(), lambda line: line.startswith("|")) if row]


def with_tables(text: str, command: str, tables: list[list[str]]) -> str:
    """Return a page in which the tables of a command are those that it printed.

    Raises:
        SystemExit: it printed fewer tables than the page has of it.
    """
    lines, old = [], False
    for line in text.splitlines():
        if old and line.startswith("|"):
            continue
        lines.append(line)
        old = False
        if (found := MARK.match(line)) and found[2] == command:
            number = int(found[1] or 1)
            if number > len(tables):
                sys.exit(f"{command!r} printed {len(tables)} tables, but the page has table {number} of it")
            lines += tables[number - 1]
            old = True
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
