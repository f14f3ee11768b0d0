"""Write ``src/qvggt/api/self_test.json``: the answers with which ``qvggt doctor`` compares those of a machine.

python scripts/make_self_test.py
"""

from __future__ import annotations

from qvggt.api.self_test import GOLDEN, golden_answers
from qvggt.files import write_json


def main() -> None:
    """Compute the answers in float32 on this CPU and write the file."""
    write_json(GOLDEN, golden_answers())


if __name__ == "__main__":
    main()
