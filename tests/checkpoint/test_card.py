from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from quantizing import rtn, rtn_recipe
from qvggt.checkpoint.card import card_text, states_license, write_fidelity
from qvggt.checkpoint.folder import CARD, open_checkpoint
from qvggt.checkpoint.write import save_checkpoint, write_checkpoint
from qvggt.nn.convert import model_layers
from qvggt.options import ATTENTION_PRESETS, QuantizeOptions
from qvggt.options.attention import attention_of
from qvggt.quant.recipe import Provenance
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError
from qvggt.weights.hub import HubOrigin
from qvggt.weights.licenses import LICENSES, license_of

ORIGIN = HubOrigin("facebook/VGGT-1B", "860abec7937da0a4c03c41d3c269c366e82abdf9")
CALIBRATED = {"dataset": "rooms", "split": "calib", "scenes": ["a", "b"], "images": 16, "seed": 3, "held_out": 1}


@pytest.fixture
def card(tmp_path, config, source):
    """Return a function that writes a checkpoint of a source, and returns its card."""

    def write(name, origin=None, **about):
        recipe = rtn_recipe(model_layers(config), QuantizeOptions(Scheme(4, 32)), Provenance(name))
        recipe = replace(recipe, provenance=replace(recipe.provenance, **about))
        folder = write_checkpoint(tmp_path / "made", config, recipe, rtn(source, config, recipe), True, origin)
        return (folder / CARD).read_text(encoding="utf-8")

    return write


def test_card__metadata_is_what_the_hub_reads(card):
    data = ModelCard(card("facebook/VGGT-1B", ORIGIN)).data
    assert (data.library_name, data.pipeline_tag) == ("qvggt", "image-to-3d")
    assert (data.base_model, data["base_model_relation"]) == ("facebook/VGGT-1B", "quantized")
    assert (data.license, data.license_name) == ("other", "vggt-1b-non-commercial")
    assert data.license_link == "https://huggingface.co/facebook/VGGT-1B"
    assert {"vggt", "4-bit", "compressed-tensors"} <= set(data.tags)
    assert ModelCard(card("nano")).data.to_dict().keys() == {"library_name", "license", "pipeline_tag", "tags"}


def test_card__says_that_a_loss_is_not_finite(card):
    """As of a model that too few bits have destroyed: it is stored all the same, and can be looked at."""
    stages = {"held_out_loss": {"float_model": 0.25, "quantized": None, "predicted": None}}
    text = card("nano", stages=stages)
    assert "| loss on the held-out calibration scenes | not finite |" in text
    assert "| the same of the float model | 0.2500 |" in text


@pytest.mark.parametrize(
    ("name", "license", "title"),
    [
        ("nano", "apache-2.0", "nano at 4 bits"),
        ("seeded:vggt-1b", "apache-2.0", "seeded:vggt-1b at 4 bits"),
        ("facebook/VGGT-1B-Commercial", "other", "VGGT-1B-Commercial at 4 bits"),
        ("/home/me/secret/tuned.pt", "unknown", "VGGT at 4 bits"),
        ("", "unknown", "VGGT at 4 bits"),
    ],
)
def test_card__hands_on_the_license_of_the_source(card, name, license, title):
    text = card(name)
    assert ModelCard(text).data.license == license
    assert f"\n# {title}\n" in text
    assert license_of(name).original in text
    assert ("which qvggt does not know" in text) == (license == "unknown")
    assert states_license(text) == (license != "unknown")
    assert "/home/me" not in text


def test_card__figures_and_recipe_are_the_checkpoints(card, tmp_path):
    losses = {"float_model": 0.25, "quantized": 0.375, "predicted": None}
    text = card("nano", source_hash="sha256:12", calibration=CALIBRATED, stages={"held_out_loss": losses})
    opened = open_checkpoint(tmp_path / "made")
    assert f"| parameters | {opened.parameters / 1e6:.1f} M |" in text
    assert f" | {opened.average_bits:.2f} |" in text
    assert f"| size of the files | {opened.file_bytes / 1e6:.1f} MB |" in text
    assert "held-out calibration scenes | 0.3750 |" in text
    assert "the same of the float model | 0.2500 |" in text
    assert "calibrated on 16 images of the split calib of rooms, of which 1 scenes were held out (seed 3)" in text
    assert "Source: `nano`, weights `sha256:12`. Made with qvggt" in text
    assert f", revision `{ORIGIN.commit}`" in card_text(opened, ORIGIN)


def test_card__names_the_attention_plan(model_with_plan, tmp_path):
    text = (save_checkpoint(model_with_plan, tmp_path / "planned") / CARD).read_text(encoding="utf-8")
    assert "Global attention from " in text


@pytest.fixture
def model_with_plan(checkpoint):
    """Return a quantized model whose recipe has an attention plan."""
    model = open_checkpoint(checkpoint).load()
    plan = next(attention_of(name) for name in ATTENTION_PRESETS)
    levels = tuple(replace(level, blocks=level.blocks[: model.config.depth]) for level in plan.levels)
    model.recipe = replace(model.recipe, attention=replace(plan, levels=levels))
    return model


def test_card__is_equal_for_equal_checkpoints_and_not_part_of_their_size(card, checkpoint):
    assert card("nano") == card("nano")
    before = open_checkpoint(checkpoint)
    size, hash = before.file_bytes, before.hash()
    (checkpoint / CARD).unlink()
    after = open_checkpoint(checkpoint)
    assert (after.file_bytes, after.hash(), after.verify()) == (size, hash, before.verify())


def test_write_fidelity__replaces_what_was_measured_before(checkpoint):
    opened, files = open_checkpoint(checkpoint), ("config.json", "recipe.json", "model.safetensors")
    before = {name: (checkpoint / name).read_bytes() for name in files}
    original = (checkpoint / CARD).read_text()
    write_fidelity(opened, ["Rotation differs by 1 deg.", "Measured on 8 photographs."])
    assert "by 1 deg.\n\nMeasured on 8 photographs.\n" in (checkpoint / CARD).read_text()
    write_fidelity(opened, ["Rotation differs by 2 deg."])
    text = (checkpoint / CARD).read_text()
    assert "by 2 deg." in text
    assert "1 deg" not in text
    assert "not measured" not in text
    assert text.partition("<!-- fidelity")[0] == original.partition("<!-- fidelity")[0]
    assert text.partition("<!-- /fidelity")[2] == original.partition("<!-- /fidelity")[2]
    assert {name: (checkpoint / name).read_bytes() for name in files} == before
    (checkpoint / CARD).unlink()
    assert "by 2 deg." in write_fidelity(opened, ["Rotation differs by 2 deg."]).read_text()


def test_write_fidelity__needs_its_place(checkpoint):
    (checkpoint / CARD).write_text("mine")
    with pytest.raises(QvggtError, match=r"has no lines <!-- fidelity -->.*restore"):
        write_fidelity(open_checkpoint(checkpoint), ["x"])
    assert (checkpoint / CARD).read_text() == "mine"


def test_licenses__every_one_has_the_fields_of_a_card():
    assert [each.hub["license"] for each in LICENSES] == ["apache-2.0"] * 3 + ["other", "other", "unknown"]
    for each in LICENSES:
        assert set(each.hub) == ({"license", "license_name", "license_link"} if each.hub["license"] == "other" else
                                 {"license"})  # fmt: skip
        assert each.hub.get("license_link", each.original) == each.original
    assert license_of("facebook/VGGT-1B").commercial == "no"
    assert license_of("seeded:nano").hub == {"license": "apache-2.0"}
