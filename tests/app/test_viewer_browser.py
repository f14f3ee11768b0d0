"""The viewer in headless Chromium, drawn by its software renderer."""

import numpy as np
import pytest
from waiting import wait_for

from headless import CHROMIUM, chromium
from qvggt.app.compare import compare_results
from qvggt.export.result import Result, ResultInfo
from qvggt.options import ViewOptions

pytestmark = pytest.mark.browser
RULER_COLOR = np.array([230, 30, 90])


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium in PATH")
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser, tmp_path):
    """Return a function that shows results: it returns the viewer, the browser as the server sees it, and the page."""
    pytest.importorskip("viser", reason="needs viser")
    from contextlib import ExitStack

    from qvggt.app.server import serving, url_of
    from qvggt.app.viewer import Viewer

    errors = []
    with ExitStack() as stack:

        def show(*predictions):
            results = [
                Result(tmp_path / f"room-{index}", prediction, ResultInfo(drop_percent=0))
                for index, prediction in enumerate(predictions)
            ]
            server = stack.enter_context(serving(ViewOptions(port=8300)))
            comparison = compare_results(*results) if len(results) == 2 else None
            viewer = Viewer(server, ViewOptions(), results[0].folder, comparison)
            viewer.show(results)
            page = browser.new_page(viewport={"width": 900, "height": 700})
            page.set_default_timeout(120_000)
            stack.callback(page.close)
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(url_of(server))
            page.wait_for_selector("text=Points", timeout=120_000)
            client = wait_for(lambda: next(iter(server.get_clients().values()), None))
            return viewer, client, page

        yield show
    assert errors == []


def drawn(client):
    return client.get_render(240, 320, timeout=180.0)[..., :3].astype(int)


def difference(first, second):
    return np.abs(first - second).mean()


def is_blank(picture):
    return np.ptp(picture.reshape(-1, 3), axis=0).max() < 60


def slide(page, label, key, times=1):
    thumb = page.get_by_text(label, exact=True).locator("xpath=following::*[@role='slider'][1]")
    thumb.focus()
    for _ in range(times):
        page.keyboard.press(key)


def test_sliders_and_colors_change_what_is_drawn(opened, room):
    viewer, client, page = opened(room)
    before = drawn(client)
    assert not is_blank(before)
    assert difference(before, drawn(client)) < 0.5
    for label, key, name in (("Hide least sure, %", "End", "drop_percent"), ("Number", "Home", "level")):
        was = getattr(viewer.scene.look, name)
        slide(page, label, key)
        wait_for(lambda name=name, was=was: getattr(viewer.scene.look, name) != was)
        wait_for(lambda before=before: difference(before, drawn(client)) > 1)
        before = drawn(client)
    page.get_by_text("Color", exact=True).locator("xpath=following::input[1]").click()
    page.get_by_role("option", name="frame").click()
    wait_for(lambda: viewer.scene.look.color == "frame")
    wait_for(lambda: difference(before, drawn(client)) > 1)


@pytest.mark.slow
def test_a_click_on_a_camera_flies_there_and_shows_its_photograph(opened, room):
    viewer, client, page = opened(room)
    viewer._enter(0, 2, client)
    place, _ = viewer.scene.camera(0, 2)
    np.testing.assert_allclose(client.camera.position, place, atol=1e-5)
    page.get_by_text("Photograph", exact=True).click()
    page.wait_for_selector(f"text={room.names[2]}")
    assert not is_blank(drawn(client))


def test_a_known_distance_makes_the_scene_metric(opened, room, tmp_path):
    from qvggt.export.result import open_result

    viewer, client, page = opened(room)
    page.get_by_text("Measure", exact=True).click()
    box = page.get_by_text("Pick points", exact=True).locator("xpath=following::input[1]")
    box.wait_for(state="visible")
    box.press("Space")
    said = page.get_by_text("Distance", exact=True).locator("xpath=following::input[1]")
    for x, y, asked in ((250, 400, "click two points"), (400, 330, "click the second point")):
        wait_for(lambda asked=asked: said.input_value() == asked)  # before, the page ignores clicks
        page.mouse.click(x, y, delay=300)
    distance = wait_for(lambda: viewer.ruler.distance)
    # The ruler is seen along the whole surface on which it lies: 51 columns.
    wait_for(lambda: (np.abs(drawn(client) - RULER_COLOR).max(-1) < 90).any(0).sum() > 40)
    viewer._tools.known.value = 2.0
    viewer._set_scale(client)
    assert viewer.ruler.text == "2 m"
    viewer._save(client)
    saved = open_result(tmp_path / "room-0-meters")
    assert saved.info.unit == "meter"
    assert saved.info.details["scale"]["meters_per_unit"] == pytest.approx(2 / distance)
    np.testing.assert_allclose(saved.prediction.depth, room.depth * 2 / distance, rtol=1e-5)


def test_two_results_side_by_side_and_overlaid(opened, room):
    from dataclasses import replace

    viewer, client, _ = opened(room, replace(room, depth=room.depth * np.float32(1.05)))
    pictures = []
    for layout in ("side by side", "both", "A", "B"):
        viewer.controls._layout.value = layout
        wait_for(lambda layout=layout: viewer.scene.look.layout == layout)
        pictures.append(drawn(client))
        wait_for(lambda: len(pictures) < 2 or difference(pictures[0], drawn(client)) > 1)
    assert not any(map(is_blank, pictures))


@pytest.mark.slow
def test_screenshot_and_turntable(opened, room):
    import io

    from PIL import Image

    from qvggt.app.saving import screenshot, turntable
    from qvggt.export.moving import moving_picture

    _, client, _ = opened(room)
    picture = Image.open(io.BytesIO(screenshot(client, 360)))
    assert picture.height == 360
    assert picture.mode == "RGB"
    assert not is_blank(np.asarray(picture))
    frames = turntable(client, np.zeros(3), 6, (160, 90))
    assert [frame.shape for frame in frames] == [(90, 160, 3)] * 6
    assert difference(frames[0].astype(int), frames[3].astype(int)) > 1
    assert Image.open(io.BytesIO(moving_picture(frames, "gif"))).n_frames == 6
