"""The schemas of a checkpoint's JSON files: they fit what is written, and refuse what cannot be read."""

import copy
import json
from dataclasses import fields, replace

import jsonschema
import pytest

from quantizing import rtn, rtn_recipe
from qvggt.checkpoint.folder import open_checkpoint, own_hash
from qvggt.checkpoint.write import save_checkpoint, write_checkpoint
from qvggt.model import VGGTConfig
from qvggt.nn.convert import model_layers
from qvggt.options import QuantizeOptions
from qvggt.quant.recipe import Provenance
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import AttentionPlan, BlockAttention, PlanLevel, QvggtError
from schemas import schema, validate, validate_checkpoint

SCHEMES = [
    Scheme(2, -1, False, "mse"), Scheme(4, 32), Scheme(8, 16, rotation=True), Scheme(4, 32, activation_bits=8),
    FloatScheme("bfloat16"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["recipe", "config"])
def test_schema__is_a_schema_and_describes_every_field(name):
    values = schema(name)
    jsonschema.Draft202012Validator.check_schema(values)
    if name == "config":
        described = values["properties"]["vggt"]["properties"]
        assert list(described) == [field.name for field in fields(VGGTConfig)]
    else:
        assert list(values["$defs"]["scheme"]["properties"]) == [field.name for field in fields(Scheme)]
        assert list(values["$defs"]["float_scheme"]["properties"]) == [field.name for field in fields(FloatScheme)]
        assert list(values["$defs"]["provenance"]["properties"]) == [field.name for field in fields(Provenance)]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_schema__fits_checkpoints_of_every_scheme(tmp_path, config, source, scheme):
    recipe = rtn_recipe(model_layers(config), QuantizeOptions(scheme, layers=("aa", "conv2d"), float_type="float32"))
    recipe_values = validate_checkpoint(
        write_checkpoint(tmp_path / "made", config, recipe, rtn(source, config, recipe))
    )
    assert set(recipe_values) == set(schema("recipe")["required"])


def test_schema__fits_plans_of_attention(checkpoint, tmp_path):
    model = open_checkpoint(checkpoint).load()
    blocks = tuple(BlockAttention(*each) for each in (("exact",), ("pooled", 2), ("sampled", 3), ("frame",)))
    depth = model.config.depth
    plan = AttentionPlan((PlanLevel(4, (blocks * depth)[:depth]), PlanLevel(9, (blocks[1:] * depth)[:depth])))
    model.recipe = replace(model.recipe, attention=plan)
    assert validate_checkpoint(save_checkpoint(model, tmp_path / "planned"))["attention_plan"]["version"] == 1


CHANGES = {
    "version": lambda recipe: recipe.update(version=2),
    "float type": lambda recipe: recipe.update(float_type="float64"),
    "provenance": lambda recipe: recipe.pop("provenance"),
    "hash": lambda recipe: recipe.update(hash="sha256:1"),
    "bits": lambda recipe: _first(recipe).update(bits=9),
    "group size": lambda recipe: _first(recipe).update(group_size=0),
    "rule": lambda recipe: _first(recipe).update(scale_rule="max"),
    "unknown field of a scheme": lambda recipe: _first(recipe).update(mean=1),
    "unknown field of the provenance": lambda recipe: recipe["provenance"].update(author="me"),
    "plan": lambda recipe: recipe.update(attention_plan={"version": 1, "levels": [{"min_frames": 1, "blocks": ["x"]}]}),
}  # fmt: skip


def _first(recipe):
    return next(iter(recipe["layers"].values()))


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_schema__refuses_what_the_reader_refuses(checkpoint, change):
    path = checkpoint / "recipe.json"
    values = json.loads(path.read_text())
    changed = copy.deepcopy(values)
    change(changed)
    validate("recipe", values)
    with pytest.raises(jsonschema.ValidationError):
        validate("recipe", changed)
    if changed["hash"] == values["hash"]:
        changed["hash"] = own_hash({name: value for name, value in changed.items() if name != "hash"})
    path.write_text(json.dumps(changed))
    with pytest.raises(QvggtError):
        open_checkpoint(checkpoint)
