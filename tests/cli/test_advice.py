"""Where an option mends what is wrong, the sentence names it."""

import pytest
from commands import MODEL, draw
from PIL import Image

CALIBRATED = ("quantize", MODEL, "-o", "out", "--method", "awq", "--group-size", "32")
TABLE = [
    # reconstruct
    (("reconstruct", MODEL, "photos", "-o", "out", "--frames", "0"), "--frames"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--fps", "2"), "--frames"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--fps", "0"), "--fps"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--window", "1"), "--window"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--window", "3", "--overlap", "3"), "--overlap"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--overlap", "3"), "--window"),
    (
        ("reconstruct", MODEL, "photos", "-o", "out", "--window", "2", "--overlap", "1", "--heads", "depth"),
        "--heads camera depth",
    ),
    (("reconstruct", MODEL, "photos", "-o", "out", "--dense-frames", "0"), "--dense-frames"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--max-points", "0"), "--max-points"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--drop-percent", "101"), "--drop-percent"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--memory", "1MB"), "--memory"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--threads", "0"), "--threads"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--device", "tpu"), "--device"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--scale", "a.jpg:b.jpg"), "--scale"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--align-world"), "--scale"),
    (("reconstruct", MODEL, "photos", "-o", "out", "--masks", "black"), "--masks"),
    (("reconstruct", MODEL, "photos", "-o", "taken"), "--overwrite"),
    (("reconstruct", MODEL, "--scenes", "none/*", "-o", "out"), "--scenes"),
    (("frames", "walk.mp4", "-o", "out", "--number", "0"), "--number"),
    # calibration
    ((*CALIBRATED, "--calib", "photos"), "--calib-frames 1 or fewer"),
    ((*CALIBRATED, "--calib", "photos", "--calib-frames", "1", "--supervision", "truth"), "--supervision teacher"),
    ((*CALIBRATED, "--calib-scenes", "1"), "--calib-scenes"),
    ((*CALIBRATED, "--calib-frames", "99"), "--calib-frames 8 or fewer"),
    ((*CALIBRATED, "--calib-root", "photos"), "--calib-root"),
    ((*CALIBRATED, "--calib", "co3d"), "--calib-root"),
    ((*CALIBRATED, "--without", "selct"), "--without"),
    ((*CALIBRATED, "--activation-bits", "8"), "--method"),
    ((*CALIBRATED, "--average-bits", "4"), "--method"),
    (("quantize", MODEL, "-o", "out", "--group-size", "0"), "--group-size"),
    (("quantize", MODEL, "-o", "out", "--bits", "9"), "--bits"),
    (("quantize", MODEL, "-o", "taken", "--group-size", "32"), "--overwrite"),
    (
        ("quantize", MODEL, "-o", "out", "--method", "qvggt", "--average-bits", "4", "--max-bytes", "9"),
        "--average-bits, --max-bytes",
    ),
    (
        ("sensitivity", MODEL, "-o", "x.json", "--attention", "--max-loss", "1", "--products", "0.5"),
        "--max-loss, --products",
    ),
    (("sensitivity", MODEL, "-o", "x.json", "--attention", "--attention-choices", "exact"), "--attention-choices"),
    (("sensitivity", MODEL, "-o", "x.json", "--attention", "--calib-frames", "100000"), "--calib-frames"),
    # evaluation
    (("evaluate", MODEL, "--frames", "1000000"), "--frames"),
    (("evaluate", MODEL, "--frames", "0"), "--frames"),
    (("evaluate", MODEL, "--frames", "-1"), "--frames"),
    (("evaluate", MODEL, "--scenes", "0"), "--scenes"),
    (("evaluate", MODEL, "--scenes", "-3"), "--scenes"),
    (("evaluate", MODEL, "--every", "0"), "--every"),
    (("evaluate", MODEL, "--frames", "2", "--every", "2"), "--every"),
    (("evaluate", MODEL, "--threads", "0"), "--threads"),
    (("evaluate", MODEL, "--workers", "-1"), "--workers"),
    (("evaluate", MODEL, "--split", "train"), "--split"),
    (("evaluate", MODEL, "--landmarks", "2"), "--landmarks"),
    (("evaluate", MODEL, "--data-root", "photos"), "--data-root"),
    (("evaluate", MODEL, "--dataset", "co3d"), "--data-root"),
    (("evaluate", MODEL, "--dataset", "folder", "--data-root", "photos"), "--protocol"),
    (("evaluate", MODEL, "--dataset", "folder", "--data-root", "photos", "--protocol", "pose-standard"), "--protocol"),
    (
        ("evaluate", MODEL, "--dataset", "folder", "--data-root", "photos", "--fidelity-to", MODEL, "--frames", "9"),
        "--frames",
    ),
    (("evaluate", MODEL, "--dataset", "folder", "--data-root", "photos", "--landmarks", "1"), "--landmarks"),
    (("compare", MODEL, "--methods", "rtn", "--scenes", "0"), "--scenes"),
    (("compare", MODEL, "--methods", "rtn", "--frames", "1000000"), "--frames"),
    # rooms
    (("render", "rooms", "-o", "out", "--scenes", "1", "--frames", "0"), "--frames"),
    (("render", "rooms", "-o", "out", "--scenes", "1", "--frames", "1000000"), "--frames"),
    (("render", "rooms", "-o", "out", "--scenes", "0"), "--scenes"),
    (("render", "rooms", "-o", "out", "--scenes", "-1"), "--scenes"),
    (("render", "rooms", "-o", "out", "--scenes", "100000"), "--scenes"),
    (("render", "rooms", "-o", "out", "--split", "train"), "--scenes"),
    (("render", "rooms", "-o", "out", "--seed", "-1"), "--seed"),
    (("render", "rooms", "-o", "out", "--size", "4"), "--size"),
    (("render", "rooms", "-o", "out", "--samples", "0"), "--samples"),
    (("render", "rooms", "-o", "out", "--jpeg", "100"), "--jpeg"),
    (("render", "rooms", "-o", "out", "--landmarks", "7"), "--landmarks"),
    # the others
    (("plan", MODEL, "--frames", "0"), "--frames"),
    (("plan", MODEL, "--size", "50"), "--size"),
    (("plan", MODEL, "--memory", "1MB"), "--memory"),
    (("bench", MODEL, "--repeats", "0"), "--repeats"),
    (("bench", MODEL, "--profile", "x.jpg"), "--profile"),
    (("fidelity", MODEL, MODEL, "photos", "--frames", "0"), "--frames"),
    (("fidelity", MODEL, MODEL, "photos", "--card"), "--card"),
    (("train", "micro", "-o", "out", "--threads", "0"), "--threads"),
    (("app", "--host", "0.0.0.0"), "--password-file"),
    (("export-model", MODEL, "-o", "x.onnx", "--size", "50"), "--size"),
]


@pytest.fixture
def scene(tmp_path, tmp_path_factory, monkeypatch):
    """Make a folder with what the commands read the current one."""
    for index in range(3):
        draw(tmp_path / "photos" / f"p{index}.png", index)
        Image.new("L", (56, 56)).save(draw(tmp_path / "black" / f"p{index}.png"))
        draw(tmp_path / "taken" / "house" / f"{index}.txt.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize(
    ("arguments", "option"), TABLE, ids=lambda value: " ".join(value) if type(value) is tuple else ""
)
def test_the_option_that_mends_it_is_named(refused, scene, arguments, option):
    assert option in refused(*arguments)
