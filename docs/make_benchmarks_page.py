"""Write the tables of benchmark runs into docs/benchmarks.md.

    python docs/make_benchmarks_page.py out/kernels.json out/engines.json

A file goes between the markers of its own name.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from marked import replace_between

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from tables import engines_table, kernels_table

PAGE = Path(__file__).parent / "benchmarks.md"
TABLES = {"kernels": kernels_table, "engines": engines_table}


def main() -> None:
    """Write the tables that were given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="JSON")
    options = parser.parse_args()
    unknown = sorted(path.name for path in options.runs if path.stem not in TABLES)
    if unknown:
        parser.error(f"there is no table for {unknown[0]}: choose from {', '.join(f'{name}.json' for name in TABLES)}")
    for path in options.runs:
        table = TABLES[path.stem](json.loads(path.read_text(encoding="utf-8")))
        PAGE.write_text(replace_between(PAGE.read_text(encoding="utf-8"), path.stem, table), encoding="utf-8")


if __name__ == "__main__":
    main()
