"""``qvggt fidelity``: two models on one's own photographs."""

import json

import pytest
import torch
from commands import MODEL, draw, weight, write_weights
from PIL import Image


@pytest.mark.render
def test_table_sentence_figures_and_picture(qvggt, photos, intact_checkpoint, tmp_path):
    files = tmp_path / "deep" / "x.json", tmp_path / "deep" / "x.png"
    done = qvggt("fidelity", MODEL, intact_checkpoint, photos, "--json", files[0], "--plot", files[1])
    assert (done.status, done.err) == (0, "")
    values = json.loads(files[0].read_text())
    assert (values["model"], values["other"], values["frames"]) == (MODEL, str(intact_checkpoint), 2)
    assert set(values["means"]) == {"rotation_deg", "translation_deg", "depth_percent", "point_percent"}
    assert values["per_frame"]["names"] == ["p0.jpg", "p1.jpg"]
    assert values["pairs"] == 1
    assert tuple(values["auc"]) == ("auc30", "auc15", "auc5", "auc3")
    assert f"pose AUC against {MODEL}, 1 pair: {values['auc']['auc30']:.2f} @30, " in done.out
    assert values["seconds"] > 0
    assert values["peak_memory_bytes"] > 50e6
    lines = done.out.splitlines()
    first, second, mean = (next(line for line in lines if word in line) for word in ("p0.jpg", "p1.jpg", "mean"))
    assert first.split()[:4] == ["1", "p0.jpg", "-", "-"]
    assert second.split()[2] == f"{values['per_frame']['rotation_deg'][1]:.2f}"
    assert mean.split()[1:] == [f"{value:.2f}" for value in values["means"].values()]
    assert "micro against seeded:micro on 2 images: cameras are turned by" in done.out
    assert f"picture: {files[1]}" in done.out
    with Image.open(files[1]) as picture:
        assert picture.format == "PNG"


def test_one_image_says_that_cameras_cannot_be_compared(qvggt, photos, intact_checkpoint):
    done = qvggt("fidelity", MODEL, intact_checkpoint, photos / "p0.jpg")
    assert done.status == 0
    assert "cameras cannot be compared on one image" in done.out
    assert "pose AUC" not in done.out
    assert "nan" not in done.out
    assert "None" not in done.out


def test_options_reach_the_images(qvggt, tmp_path):
    for index in range(4):
        draw(tmp_path / "tall" / f"p{index}.jpg", index, 40, 90)
    done = qvggt(
        "fidelity", MODEL, MODEL, tmp_path / "tall", "--mode", "pad", "--frames", "3", "--json", tmp_path / "x"
    )
    assert done.status == 0
    values = json.loads((tmp_path / "x").read_text())
    assert (values["frames"], values["height_px"], values["width_px"]) == (3, 56, 56)
    assert values["means"]["depth_percent"] == 0
    assert "frames per second" in qvggt("fidelity", MODEL, MODEL, tmp_path / "tall", "--fps", "2").sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((MODEL, "seeded:nano"), "compare models that take the same images"),
        ((MODEL, "nowhere"), "'nowhere' not found"),
        ((MODEL, MODEL, "--plot", "x.pdf"), ".png"),
        ((MODEL, MODEL, "--device", "abacus"), "device 'abacus' cannot be used"),
        ((MODEL, MODEL, "--dense-frames", "0"), "at least 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(refused, photos, arguments, words):
    assert words in refused("fidelity", *arguments[:2], photos, *arguments[2:])


def test_missing_images(refused, tmp_path):
    assert "no images given" in refused("fidelity", MODEL, MODEL)
    assert "does not exist" in refused("fidelity", MODEL, MODEL, tmp_path / "nowhere.jpg")


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_files_that_cannot_be_written_are_refused_before_the_work(refused, photos, tmp_path, monkeypatch, option):
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr("qvggt.api.fidelity.load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert "is a folder" in refused("fidelity", MODEL, MODEL, photos, option, tmp_path / "folder.png")


def test_a_model_whose_answer_is_not_finite_is_named(refused, photos, tmp_path):
    name = "camera_head.trunk_norm.weight"
    broken = write_weights(tmp_path / "broken.safetensors", **{name: torch.full_like(weight(name), torch.nan)})
    sentence = refused("fidelity", MODEL, broken, photos, "--json", tmp_path / "x.json", "--plot", tmp_path / "x.png")
    assert f"{broken} cannot be compared" in sentence
    assert "not finite" in sentence


def test_card__gets_the_means_and_their_conditions(qvggt, photos, checkpoint, tmp_path):
    figures = tmp_path / "x.json"
    done = qvggt("fidelity", MODEL, checkpoint, photos, "--card", "--json", figures)
    assert (done.status, done.err) == (0, "")
    assert f"model card: {checkpoint / 'README.md'}" in done.out
    card, means = (checkpoint / "README.md").read_text(), json.loads(figures.read_text())["means"]
    assert f"| depth | {means['depth_percent']:.2f} % |" in card
    assert f"| pose AUC@3 | {json.loads(figures.read_text())['auc']['auc3']:.1f} |" in card
    assert f"| camera rotation | {means['rotation_deg']:.2f} deg |" in card
    assert "Measured on 2 photographs of 56x56 px with compute `float32` on `" in card
    assert qvggt("inspect", checkpoint, "--verify").status == 0


def test_card__of_a_model_without_one_is_refused(refused, photos):
    assert "--card writes to the folder of a quantized checkpoint" in refused(
        "fidelity", MODEL, MODEL, photos, "--card"
    )
