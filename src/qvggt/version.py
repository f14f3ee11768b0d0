"""The version and the project's address, in a place of their own so that every part may import them."""

__version__ = "0.1.0"
REPOSITORY = "https://github.com/qvggt/qvggt"
