"""``reconstruct --masks``: nothing that a mask excludes is in any file."""

import json

import numpy as np
from commands import MODEL
from PIL import Image

from qvggt.export.npz import load_prediction


def test_what_masks_exclude_is_in_no_file(qvggt, photos, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for index in range(2):
        pixels = np.zeros((56, 56), np.uint8)
        pixels[: 28 * (index + 1)] = 255
        Image.fromarray(pixels).save(masks / f"p{index}.png")
    done = qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out", "--masks", masks, "--confidence", 0)
    assert done.status == 0, done
    mask = load_prediction(tmp_path / "out" / "prediction.npz").mask
    assert mask is not None
    assert mask.mean((1, 2)).tolist() == [0.5, 1.0]
    details = json.loads((tmp_path / "out" / "result.json").read_text())["details"]
    assert details["masks"] == {"folder": str(masks)}  # for exports at the original size
    ply = (tmp_path / "out" / "points.ply").read_bytes()
    assert b"element vertex %d\n" % mask.sum() in ply
    depth = np.asarray(Image.open(tmp_path / "out" / "depth" / "p0.png"))
    assert (depth[28:] == 0).all()
    assert (depth[:28] > 0).all()
    scale = json.loads((tmp_path / "out" / "depth" / "scale.json").read_text())
    assert scale["frames"][0]["name"] == "p0.jpg"


def test_masks_are_looked_for_before_the_model(refused, photos, tmp_path):
    sentence = refused(
        "reconstruct", tmp_path / "no-model", photos, "-o", tmp_path / "out", "--masks", tmp_path / "none"
    )
    assert "none" in sentence
    assert "does not exist" in sentence
