"""``python -m qvggt``: the command line."""

from qvggt.cli import main

main()
