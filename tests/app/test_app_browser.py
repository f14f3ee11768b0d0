"""The app in headless Chromium: from files to a scene that turns, on a desktop and on a phone."""

import time
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image
from waiting import wait_for

from headless import CHROMIUM, chromium
from qvggt.options import AppLimits, AppOptions
from qvggt.weights.pretrained import sample_images

pytestmark = pytest.mark.browser
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
TIMEOUT_MS = 120_000


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium in PATH")
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as opened:
        yield opened


@pytest.fixture(scope="module")
def address(browser):
    pytest.importorskip("gradio", reason="needs gradio")
    from qvggt.app.web.server import serving

    with serving(AppOptions(port=7900, compute="float32", device="cpu", limits=AppLimits(images=10))) as url:
        yield url


@pytest.fixture
def open_page(browser, address):
    """Return a function that opens the app at a size; no page may ask another host, or have an error of its own."""
    errors, asked = [], []
    with ExitStack() as stack:

        def show(size="desktop", url=address):
            width, height = SIZES[size]
            page = browser.new_page(viewport={"width": width, "height": height}, has_touch=size == "phone")
            stack.callback(page.close)
            page.set_default_timeout(TIMEOUT_MS)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(url)
            return page

        yield show
    assert errors == []
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()
    assert len(asked) > 10


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def notes(page):
    return page.locator("#notes textarea").input_value()


def reconstruct(page):
    """Reconstruct what is chosen and wait until the scene is drawn."""
    with page.expect_response(lambda answer: answer.url.endswith("/scene.glb")):
        button(page, "Reconstruct").click()
    wait_for(lambda: "frames of" in notes(page))
    page.locator("#scene canvas").wait_for()
    wait_for(lambda: not is_blank(drawn(page)))
    settled(page)


def drawn(page):
    import io

    with Image.open(io.BytesIO(page.locator("#scene canvas").screenshot())) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def settled(page):
    """Return the scene once two pictures of it are equal."""
    before = drawn(page)
    for _ in range(50):
        time.sleep(0.3)
        now = drawn(page)
        if now.shape == before.shape and np.abs(now - before).mean() < 0.05:
            return now
        before = now
    raise AssertionError("the scene does not come to rest")


def is_blank(picture):
    inside = picture[60:-20, 20:-20].reshape(-1, 3)  # without the label
    return np.ptp(inside, axis=0).max() < 60


@pytest.mark.parametrize("size", ["desktop", pytest.param("phone", marks=pytest.mark.slow)])
def test_from_upload_to_turning_the_scene_and_saving_it(open_page, tmp_path, size):
    page = open_page(size)
    page.locator("#files input[type=file]").set_input_files(sample_images()[:4])
    page.get_by_text("003", exact=False).first.wait_for()
    reconstruct(page)
    assert notes(page).startswith("4 frames of 112 x 84 pixels in ")
    assert "No faults found." in notes(page)
    assert page.locator("#depth img").count() == 4
    assert page.evaluate("document.scrollingElement.scrollWidth") <= SIZES[size][0]

    before, box = settled(page), page.locator("#scene canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 120, y + 30, steps=8)
    page.mouse.up()
    assert np.abs(settled(page) - before).mean() > 1

    said = notes(page)
    with page.expect_response(lambda answer: answer.url.endswith("/scene.glb")) as fewer:
        page.locator("#drop input[type=range]").focus()
        page.keyboard.press("End")
        page.locator("#drop input[type=range]").dispatch_event("pointerup")
    assert len(fewer.value.body()) < 4 * 112 * 84 * 24 / 10
    assert notes(page) == said

    with page.expect_download() as saved:
        button(page, "↓ PLY").click()
    saved.value.save_as(tmp_path / "points.ply")
    assert saved.value.suggested_filename == "points.ply"
    assert (tmp_path / "points.ply").read_bytes().startswith(b"ply\n")


@pytest.mark.slow
def test_the_example_scene_is_one_click_away(open_page):
    page = open_page()
    button(page, "Use the example scene").click()
    page.get_by_text("007", exact=False).first.wait_for()
    reconstruct(page)
    assert notes(page).startswith("8 frames of 112 x 84 pixels in ")


def test_an_error_is_one_sentence_and_the_scene_stays(open_page, tmp_path):
    page = open_page("phone")
    button(page, "Reconstruct").click()
    wait_for(lambda: notes(page) == "There is nothing to reconstruct: add photographs or a video first.")
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    page.locator("#files input[type=file]").set_input_files([tmp_path / "broken.jpg"])
    page.get_by_text("broken", exact=False).first.wait_for()
    button(page, "Reconstruct").click()
    wait_for(lambda: notes(page).startswith("broken.jpg is not a readable image"))
    button(page, "↓ PLY").click()
    page.get_by_text("There is no scene: reconstruct one first", exact=False).wait_for()
    assert "Traceback" not in page.content()


@pytest.mark.slow
def test_stop_ends_a_reconstruction(open_page, monkeypatch):
    from qvggt.app.web import job

    whole = job.reconstruct

    def slowly(network, images, on_progress, **options):
        def report(stage, share):
            time.sleep(0.3)
            on_progress(stage, share)

        return whole(network, images, on_progress=report, **options)

    monkeypatch.setattr(job, "reconstruct", slowly)
    page = open_page()
    button(page, "Use the example scene").click()
    page.get_by_text("007", exact=False).first.wait_for()
    button(page, "Reconstruct").click()
    page.get_by_text("8 frames, attention", exact=False).first.wait_for()
    button(page, "Stop").click()
    wait_for(lambda: notes(page) == "The reconstruction was stopped.")


@pytest.mark.slow
def test_the_camera_of_the_device_adds_photographs(open_page):
    page = open_page("phone")
    page.get_by_text("Take photographs with the camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_role("button", name="capture photo").click()
    page.locator("#files").get_by_text("image", exact=False).first.wait_for()


def test_the_queue_is_bounded(tmp_path):
    pytest.importorskip("gradio", reason="needs gradio")
    from qvggt.app.web.holder import ModelHolder
    from qvggt.app.web.page import Page
    from qvggt.app.web.sessions import Sessions

    page = Page(AppOptions(limits=AppLimits(waiting=3)), Sessions(tmp_path), ModelHolder("cpu"))
    assert page.blocks._queue.max_size == 3


@pytest.mark.slow
def test_a_password_is_asked_for_and_nothing_is_left(browser, tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="needs gradio")
    import tempfile

    from qvggt.app.web import server

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(server, "_WRONG_PASSWORD_S", 0.0)
    options = AppOptions(port=7940, compute="float32", device="cpu", password="open sesame")
    with server.serving(options) as url:
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(url)
        for given, said in (("wrong", "Incorrect"), ("open sesame", "Reconstruct")):
            page.locator("input").first.fill("me")
            page.locator("input[type=password]").fill(given)
            page.get_by_role("button", name="Login").click()
            page.get_by_text(said, exact=False).first.wait_for()
        button(page, "Use the example scene").click()
        page.get_by_text("007", exact=False).first.wait_for()
        reconstruct(page)
        assert list(tmp_path.glob("qvggt-app-*/visitors/*/prediction.npz"))
        page.close()
    assert list(tmp_path.iterdir()) == []
