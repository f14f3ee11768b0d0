"""From a visitor's files to the scene, its pictures, notes and downloads, without Gradio."""

import errno
import io
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from qvggt.app.web.downloads import DOWNLOADS, write_download
from qvggt.app.web.holder import ModelHolder, short_names
from qvggt.app.web.job import Job, messages, opened, reconstruct_job, sentence, write_pictures, write_scene
from qvggt.app.web.sessions import Sessions
from qvggt.options import AppLimits, AppOptions
from qvggt.types import QvggtError
from qvggt.weights.pretrained import sample_images

LIMITS = AppLimits(images=4)
PHOTOGRAPHS = tuple(sample_images()[:4])


def quiet(stage, share):
    pass


@pytest.fixture(scope="module")
def holder():
    return ModelHolder("cpu")


@pytest.fixture
def session(tmp_path):
    return Sessions(tmp_path).visit("page")


def job(images=PHOTOGRAPHS, mode="crop"):
    return Job(images, "nano", "float32", 4, mode)


@pytest.fixture(scope="module")
def visited(tmp_path_factory):
    """Return a session with a scene, the notes on it, and the stages that were reported."""
    session, stages = Sessions(tmp_path_factory.mktemp("visitors")).visit("page"), {}
    notes = reconstruct_job(job(), session, ModelHolder("cpu"), LIMITS, on_progress=stages.setdefault)
    return session, notes, list(stages)


def test_the_model_is_loaded_once_until_another_is_asked_for(monkeypatch):
    loaded = []

    def load(name, device, compute, revision, on_progress):
        loaded.append((name, device, compute))
        return object()

    monkeypatch.setattr("qvggt.api.reconstruct.load", load)
    holder = ModelHolder("cpu")
    first = holder.get("nano", "float32", quiet)
    assert holder.get("nano", "float32", quiet) is first
    assert holder.get("nano", "int8", quiet) is not first
    holder.get("nano", "float32", quiet)
    assert loaded == [("nano", "cpu", mode) for mode in ("float32", "int8", "float32")]


def test_models_are_shown_by_the_last_part_of_their_path(tmp_path):
    for name in ("a/vggt", "b/vggt", "c"):
        (tmp_path / name).mkdir(parents=True)
    a, b, c = (str(tmp_path / name) for name in ("a/vggt", "b/vggt", "c"))
    assert short_names(("nano", "facebook/VGGT-1B", a, c)) == [
        ("nano", "nano"), ("facebook/VGGT-1B", "facebook/VGGT-1B"), ("vggt", a), ("c", c)
    ]  # fmt: skip
    assert short_names((a, b)) == [(a, a), (b, b)]


def test_a_job_reports_its_stages_and_says_how_it_went(visited):
    _, notes, stages = visited
    assert [stage.removeprefix("4 frames, ") for stage in stages] == [
        "opening", "loading weights", "reading images", "patch embedding", "attention", "depth maps", "done",
        "judging the result",
    ]  # fmt: skip
    assert notes.startswith("4 frames of 112 x 84 pixels in ")
    assert "No faults found." in notes.splitlines()


def test_dropping_more_points_needs_no_new_run(visited):
    session, _, _ = visited
    result = opened(session)
    counts = []
    for percent in (0, 50):
        path = write_scene(result, session.folder, percent, LIMITS.points)
        counts.append(len(trimesh.load_scene(path).geometry["points"].vertices))
        assert [file.name for file in path.parent.parent.iterdir()] == [path.parent.name]  # earlier ones are gone
    assert counts[0] == 4 * 112 * 84
    assert counts[1] == pytest.approx(counts[0] / 2, rel=0.01)
    assert len([n for n in trimesh.load_scene(path).graph.nodes if n.startswith("frustum")]) == 4


def test_each_photograph_stands_beside_its_depth(visited):
    session, _, _ = visited
    pictures = write_pictures(opened(session), session.folder)
    assert [name for _, name in pictures] == [path.name for path in sample_images()[:4]]
    for path, _ in pictures:
        with Image.open(path) as picture:
            left, right = np.hsplit(np.asarray(picture)[:, : picture.width // 2 * 2], 2)
            assert np.abs(left.astype(int) - right).mean() > 20


@pytest.mark.parametrize("name", DOWNLOADS)
def test_downloads_are_whole_and_equal_twice(visited, name):
    session, _, _ = visited
    first, second = (
        write_download(name, opened(session), session.folder, 25, points=1000).read_bytes() for _ in range(2)
    )
    assert first == second
    file = DOWNLOADS[name][0]
    if file == "colmap.zip":
        names = zipfile.ZipFile(io.BytesIO(first)).namelist()
        assert {"sparse/0/cameras.bin", "images/000.jpg", "export.json"} <= set(names)
    elif file == "prediction.npz":
        assert np.load(io.BytesIO(first))["depth"].shape == (4, 84, 112)
    else:
        assert first.startswith({"scene.glb": b"glTF", "points.ply": b"ply\n", "scene.html": b"<!"}[file])


def test_equal_names_from_phones_are_reconstructed_and_exported(session, holder, tmp_path):
    images = []
    for number, path in enumerate(sample_images()[:2]):
        (tmp_path / str(number)).mkdir()
        images.append(tmp_path / str(number) / "image.jpg")
        images[-1].write_bytes(path.read_bytes())
    reconstruct_job(job(images), session, holder, LIMITS, on_progress=quiet)
    assert opened(session).prediction.names == ("image.jpg", "image-2.jpg")
    for path in images:
        path.unlink()
    archive = write_download("COLMAP (zip)", opened(session), session.folder, 25, points=1000)
    assert {"images/image.jpg", "images/image-2.jpg"} <= set(zipfile.ZipFile(archive).namelist())


def test_a_video_yields_no_more_frames_than_the_limit(session, holder, tmp_path, caplog):
    av = pytest.importorskip("av")
    with av.open(tmp_path / "walk.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 84, 70
        for path in sample_images():
            frame = av.VideoFrame.from_image(Image.open(path).resize((84, 70)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    walk = Job([tmp_path / "walk.mp4"], "nano", "float32", 30, "crop")
    with caplog.at_level(logging.INFO, "qvggt"):
        notes = reconstruct_job(walk, session, holder, AppLimits(images=3), on_progress=quiet)
    assert len(opened(session).prediction.names) == 3
    assert "3 of the 8 frames" in notes


def test_stopping_ends_the_work_and_keeps_the_scene_before(visited, holder):
    session, _, _ = visited
    before = opened(session).prediction.names

    def stop(stage, share):
        if "attention" in stage:
            session.stopped.set()

    with pytest.raises(QvggtError, match="stopped"):
        reconstruct_job(job(sample_images()[:2]), session, holder, LIMITS, on_progress=stop)
    session.stopped.clear()
    assert opened(session).prediction.names == before


def test_without_a_scene_the_page_says_what_to_do(session):
    with pytest.raises(QvggtError, match="reconstruct one first"):
        opened(session)


def test_messages_of_this_thread_are_collected_once(caplog):
    import threading

    log = logging.getLogger("qvggt.images")
    with caplog.at_level(logging.INFO, "qvggt"), messages() as said:
        log.info("taking %d frames", 3)
        log.info("taking %d frames", 3)
        log.debug("a detail")
        other = threading.Thread(target=lambda: log.warning("of another visitor"))
        other.start()
        other.join()
    log.info("later")
    assert said == ["taking 3 frames"]


@pytest.mark.parametrize(
    ("error", "read"),
    [
        (QvggtError("the disk is full: free some space"), "The disk is full: free some space."),
        (QvggtError("a.jpg is damaged"), "a.jpg is damaged."),
        (MemoryError(), "Out of memory: give fewer or smaller photographs."),
        (RuntimeError("CUDA out of memory. Tried 2 GiB"), "Out of memory: give fewer or smaller photographs."),
        (
            OSError(errno.ENOSPC, "No space left on device", "/tmp/secret"),
            "The disk of the machine that runs the app is full: tell whoever runs it.",
        ),
    ],
)
def test_every_error_is_one_sentence(error, read):
    assert sentence(error) == read


def test_an_unknown_error_is_logged_and_not_shown(caplog):
    said = sentence(KeyError("secret"))
    assert "secret" not in said
    assert "log of the server" in said
    assert "secret" in caplog.text


def test_other_machines_need_a_password():
    with pytest.raises(QvggtError, match=r"without a password.*QVGGT_APP_PASSWORD"):
        AppOptions(host="0.0.0.0")
    with pytest.raises(QvggtError, match="empty"):
        AppOptions(host="0.0.0.0", password="")
    assert AppOptions(host="0.0.0.0", password="secret").password == "secret"
    assert AppOptions(host="0.0.0.0", public=True).password is None
    assert "secret" not in repr(AppOptions(password="secret"))


def test_the_space_is_short_public_and_asks_for_extras_that_exist(monkeypatch):
    import re
    import runpy

    root = Path(__file__).parents[2]
    space = root / "examples" / "space"
    assert len((space / "app.py").read_text().splitlines()) < 60
    monkeypatch.setenv("QVGGT_MODELS", "org/vggt-4bit nano")
    options = runpy.run_path(str(space / "app.py"))["OPTIONS"]
    assert (options.models, options.public, options.password) == (("org/vggt-4bit", "nano"), True, None)
    extras = re.findall(r"^(\w+) = \[", (root / "pyproject.toml").read_text(), re.MULTILINE)
    wanted = (space / "requirements.txt").read_text().split("qvggt[")[1].split("]")[0].split(",")
    assert set(wanted) <= set(extras)
    assert (space / "README.md").read_text().startswith("---\ntitle: ")
