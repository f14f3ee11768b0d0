"""The page in headless Chromium, drawn in software."""

import io

import numpy as np
import pytest
from PIL import Image

from headless import CHROMIUM, chromium
from qvggt.export.page import write_page
from qvggt.options import ExportOptions

pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium in PATH"),
]
TIMEOUT_MS = 120_000


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(room_factory, tmp_path_factory):
    """Return a page of one result and one of two, whose second has depths that are 10 % off in the first frame."""
    folder, room = tmp_path_factory.mktemp("pages"), room_factory(112, 84)
    other = room_factory(112, 84)
    other.depth[0] *= 1.1
    write_page(folder / "one.html", {"room": room}, ExportOptions(title="A room"))
    write_page(folder / "two.html", {"float": room, "4-bit": other}, ExportOptions(title="A comparison"))
    return folder


@pytest.fixture
def opened(browser, pages):
    """Return a function that opens a page; the test fails on any message in its console, or any request."""
    contexts, said = [], []

    def open_page(name, width=900, height=640, **words):
        words = {"reduced_motion": "reduce", "color_scheme": "dark", **words}
        context = browser.new_context(viewport={"width": width, "height": height}, **words)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(("file:", "data:", "blob:")) or said.append(asked.url))
        page.goto((pages / name).as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def drawn(page):
    """Return the scene's pixels [H, W, 3], once two pictures are equal."""
    before = None
    for _ in range(20):
        page.wait_for_timeout(100)
        after = np.asarray(Image.open(io.BytesIO(page.locator("#view").screenshot())).convert("RGB")).astype(int)
        if before is not None and (before == after).all():
            return after
        before = after
    raise AssertionError("the page does not come to rest")


def colored(picture):
    return (np.ptp(picture, axis=2) > 30).mean()


def set_slider(page, name, value):
    page.locator(f"input[name={name}]").fill(str(value))


def choose(page, text):
    page.locator("#panel label", has_text=text).first.click()


def test_a_scene_is_drawn(opened):
    picture = drawn(opened("one.html"))
    assert colored(picture) > 0.1
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 200


@pytest.mark.parametrize(("name", "value"), [("drop", 80), ("share", 3), ("size", 0.2), ("top", 20)])
def test_a_slider_changes_what_is_drawn(opened, name, value):
    page = opened("one.html")
    page.locator("input[name=cameras]").uncheck()
    before = drawn(page)
    set_slider(page, name, value)
    after = drawn(page)
    assert (before != after).any(-1).mean() > 0.02
    if name in ("drop", "size", "top"):  # less is drawn; fewer points are larger
        background = before[0, 0]
        assert (after != background).any(-1).mean() < 0.97 * (before != background).any(-1).mean()


@pytest.mark.parametrize("color", ["depth", "confidence", "frame"])
def test_colors_change_and_have_a_legend(opened, color):
    page = opened("one.html")
    before = drawn(page)
    choose(page, color)
    assert (before != drawn(page)).any(-1).mean() > 0.05
    assert page.locator("#legend").is_visible()


def test_two_results_are_side_by_side_with_linked_cameras(opened):
    page = opened("two.html")
    assert page.locator("#labels span:visible").all_inner_texts() == ["float", "4-bit"]
    middle = drawn(page).shape[1] // 2
    before = drawn(page)
    page.mouse.move(100, 400)
    page.mouse.down()
    page.mouse.move(180, 420, steps=4)
    page.mouse.up()
    moved = (before != drawn(page)).any(-1)
    assert moved[:, :middle].mean() > 0.05
    assert moved[:, middle:].mean() > 0.05


def test_the_difference_is_a_heat_map_of_what_differs(opened):
    page = opened("two.html")
    choose(page, "difference")
    picture = drawn(page)
    bright = (picture.sum(-1) > 400).mean()
    assert 0.005 < bright < 0.5
    assert "of depth" in page.locator("#legend").inner_text()


def test_one_result_at_a_time_and_both_overlaid_are_different_pictures(opened):
    page = opened("two.html")
    pictures = []
    for name in ("float", "4-bit", "overlaid"):
        choose(page, name)
        pictures.append(drawn(page))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (pictures[first] != pictures[second]).any(-1).mean() > 0.005


def test_a_photograph_takes_the_viewer_to_its_camera(opened):
    page = opened("one.html")
    before = drawn(page)
    page.locator("#strip button").nth(2).click()
    inside = drawn(page)
    assert (before != inside).any(-1).mean() > 0.2
    assert page.locator("#strip [aria-pressed=true]").inner_text() == "3"
    page.locator("#reset").click()
    np.testing.assert_array_equal(drawn(page), before)


def test_a_phone_gets_a_closed_panel_and_fingers_turn_the_scene(opened):
    page = opened("two.html", 390, 780, has_touch=True, is_mobile=True)
    assert not page.locator("#form").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    before = drawn(page)
    session = page.context.new_cdp_session(page)
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": 150, "y": 300}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": 220, "y": 320}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert (before != drawn(page)).any(-1).mean() > 0.05


def test_two_fingers_zoom(opened):
    page = opened("one.html", has_touch=True)
    before = drawn(page)
    session = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 40), ("touchMove", 80), ("touchMove", 160)):
        points = [{"x": 300 + sign * apart, "y": 300, "id": i} for i, sign in enumerate((-1, 1))]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    after = drawn(page)
    assert colored(after) > 1.2 * colored(before)


def test_the_scene_swings_unless_less_motion_is_wanted(opened):
    assert not opened("one.html").locator("input[name=swing]").is_checked()
    page = opened("one.html", reduced_motion="no-preference")
    assert page.locator("input[name=swing]").is_checked()
    page.mouse.click(300, 300)
    assert not page.locator("input[name=swing]").is_checked()


def test_light_and_dark_follow_the_system(opened):
    assert drawn(opened("one.html"))[0, 0].max() < 60
    assert drawn(opened("one.html", color_scheme="light"))[0, 0].min() > 200


def test_without_javascript_the_page_says_why_it_is_empty(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((pages / "one.html").as_uri())
    assert "JavaScript" in page.locator("noscript").inner_text()
    context.close()
