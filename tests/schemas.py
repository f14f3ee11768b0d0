"""Checkpoints against the schemas that the package ships."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema


def schema(name: str) -> dict:
    """Return a shipped schema: ``recipe`` or ``config``."""
    return json.loads((files("qvggt.checkpoint") / f"{name}.schema.json").read_text(encoding="utf-8"))


def validate(name: str, values: object) -> None:
    """Raise ``jsonschema.ValidationError`` unless values keep to a schema."""
    jsonschema.validate(values, schema(name), jsonschema.Draft202012Validator)


def validate_checkpoint(folder: Path) -> dict:
    """Compare both JSON files of a checkpoint with their schemas, and return the recipe."""
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    validate("recipe", recipe)
    validate("config", json.loads((folder / "config.json").read_text(encoding="utf-8")))
    return recipe
