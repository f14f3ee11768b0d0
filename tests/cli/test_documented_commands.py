"""Every command in README.md and docs/ works: most are run, on nano and little data, and all are parsed."""

import csv
import re
import shutil
from itertools import pairwise

import pytest
import torch
from documented import PARSED, documented
from PIL import Image

import qvggt as package
from qvggt.api.quantize import quantize_to
from qvggt.bench.worker import measure
from qvggt.cli import COMMANDS, main
from qvggt.cli.parsing import parse
from qvggt.data.rooms.export import Pictures, write_rooms
from qvggt.data.rooms.family import choose_rooms
from qvggt.files import write_json
from qvggt.images.rendered import save_rendered
from qvggt.inference.scenes import cpu_threads
from qvggt.options import ATTENTION_PRESETS
from qvggt.postprocess.frames import camera_centers
from qvggt.weights.pretrained import sample_cameras, sample_images

LINES = documented()
WRITTEN = ("-o", "--output", "--json", "--plot", "--profile", "--html", "--turntable")
PHOTOS = ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg")
FEW_FILES = ("--files", "prediction.npz", "cameras.json")
EXTRAS = {
    r"\.mp4|\.webp": "av", r"^refine": "pycolmap", r"--refine": "pycolmap",
    r"points-standard|evaluate": "scipy",
}  # fmt: skip
"""Packages that commands need, by pattern."""


def pictures():
    """Return small copies of the sample scene's images."""
    return [Image.open(path).resize((130, 98)) for path in sample_images()]


def write_video(path, images):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = images[0].size
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


def write_photos(folder, names, images):
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=False):
        save_rendered(image, folder / name, 95)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Return a folder with all files that commands of the pages read."""
    place, images = tmp_path_factory.mktemp("inputs"), pictures()
    quantize_to("nano", place / "vggt-4bit")
    for name in ("nano-4bit", "nano-3bit"):
        shutil.copytree(place / "vggt-4bit", place / name)
    write_photos(place / "photos", PHOTOS, images)
    write_photos(place / "captures" / "kitchen", ("a.jpg", "b.jpg"), images[4:])
    write_photos(place / "rooms" / "test-00000" / "images", ("000.jpg", "001.jpg"), images[6:])
    write_photos(place, ("left.jpg", "right.jpg"), images)
    write_photos(place / "masks", PHOTOS, [Image.new("L", (130, 98), 255)] * len(PHOTOS))
    for name in ("walk.mp4", "drive.mp4"):
        write_video(place / name, images)
    main(["reconstruct", str(place / "vggt-4bit"), str(place / "photos"), "-o", str(place / "house"), *FEW_FILES])
    for name in ("house-float", "house-4bit", "out/demo/float", "out/demo/4-bit"):
        shutil.copytree(place / "house", place / name)
    with (place / "positions.csv").open("w", newline="") as file:
        places = camera_centers(sample_cameras())
        csv.writer(file).writerows([name, *xyz] for name, xyz in zip(PHOTOS, places, strict=False))
    write_json(place / "plan.json", ATTENTION_PRESETS["nano"].to_json())
    write_rooms(place / "rooms-test", choose_rooms("test", 1, 2, None), Pictures((56, 56)))
    return place


@pytest.fixture
def place(inputs, tmp_path, monkeypatch):
    """Return a function that makes an empty folder with the inputs of a command the current one."""

    def make(words):
        for before, word in zip(("", *words), words, strict=False):
            name = word.partition("*")[0].strip("/")
            if words[0] != "render" and before not in WRITTEN and name and (inputs / name).exists():
                copy = shutil.copytree if (inputs / name).is_dir() else shutil.copyfile
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                copy(inputs / name, tmp_path / name)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    monkeypatch.setattr("qvggt.bench.run.run_in_process", measure)
    with cpu_threads(torch.get_num_threads()):  # which commands set
        yield make


@pytest.fixture
def hub(request, inputs):
    """Return a function that gives a hub on this machine the checkpoint that a command takes from it."""

    def fill(words):
        request.getfixturevalue("fake_hub")
        if words[0] != "push":
            revision = words[words.index("--revision") + 1] if "--revision" in words else None
            package.push(inputs / "vggt-4bit", "me/vggt-4bit", revision=revision)

    return fill


@pytest.mark.parametrize("line", [line for line in LINES if line.why_not_run is None], ids=str)
def test_a_command_of_the_pages_runs(line, qvggt, place, hub, monkeypatch):
    for pattern, module in EXTRAS.items():
        if re.search(pattern, line.text):
            pytest.importorskip(module)
    words = line.small
    folder = place(words)
    if words[0] in ("evaluate", "compare"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    if "me/vggt-4bit" in words:
        hub(words)
    done = qvggt(*words)
    assert done.status == 0, done.err
    for option, name in pairwise(words):
        assert option not in WRITTEN or (folder / name).exists()


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_command_of_the_pages_is_parsed(line):
    name, *arguments = line.small
    if name in COMMANDS:
        parse(name, COMMANDS[name], arguments)


def test_every_command_of_the_pages_is_known():
    assert {line.words[0] for line in LINES if not line.words[0].startswith("--")} <= set(COMMANDS)
    assert {pattern for pattern in PARSED if not any(re.search(pattern, line.text) for line in LINES)} == set()
