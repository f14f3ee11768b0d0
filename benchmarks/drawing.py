"""How fluid a moving view is: pictures a second of viewer and page in headless Chromium, which draws in software.

A room of eight exact images of 518x392 px is dragged with the mouse. A script in the browser counts the pictures, and
the points that are drawn in each: thinned while the view moves, as always, and for comparison as many as at rest.

python benchmarks/drawing.py [--points N ...] [--shows NAME ...] [--seconds S] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headless import chromium
from qvggt.app.server import serving, url_of
from qvggt.app.viewer import Viewer
from qvggt.data.rooms.family import load_rooms
from qvggt.export.page import write_page
from qvggt.export.result import Result, ResultInfo
from qvggt.options import ExportOptions, ViewOptions
from qvggt.types import FrameMap, Prediction

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZE_HW = (392, 518)
WIDTH, HEIGHT = 1000, 800
"""Of the window, in pixels."""

WARM_S, WARM_PICTURES, PICTURES, LONGEST_S = 3.0, 5, 3, 60.0
"""Least seconds and pictures before counting, so that thinning has found its share; least pictures that are counted;
and most seconds of each."""

TIMEOUT_MS = 300_000
COUNTER = """(() => {
  const counted = (window.counted = { pictures: 0, points: 0 }), gl = WebGL2RenderingContext.prototype;
  let points = null;
  for (const name of ["drawArrays", "drawElements", "drawArraysInstanced", "drawElementsInstanced"]) {
    const draw = gl[name];
    gl[name] = function (...given) {
      points = (points ?? 0) + (given[0] === this.POINTS ? given[name.startsWith("drawArrays") ? 2 : 1] : 0);
      return draw.apply(this, given);
    };
  }
  const tick = () => {
    if (points !== null) { counted.pictures += 1; counted.points += points; points = null; }
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
})()"""
"""Counts pictures and points: a picture is the time between two requests for one in which anything was drawn."""

WHOLE_PAGE = "Object.defineProperty(qvggtPage, 'share', { get: () => 1, set: () => {} })"


@dataclass(frozen=True)
class Rate:
    """Pictures a second while the view moves.

    Attributes:
        shows: ``viewer`` or ``page``.
        points: that were sent.
        thinned: whether fewer are drawn while the view moves.
        drawn: points in a picture, the mean.
        per_s: pictures a second.
    """

    shows: str
    points: int
    thinned: bool
    drawn: int
    per_s: float


def main() -> None:
    """Print a table, one line for each number of points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[300_000, 1_000_000])
    parser.add_argument("--shows", nargs="+", default=list(SHOWN), choices=list(SHOWN))
    parser.add_argument("--seconds", type=float, default=8.0, help="of dragging that is counted")
    parser.add_argument("--json", type=Path, help="also write the figures")
    chosen = parser.parse_args()
    room, rates = exact_room(), []
    with chromium() as browser:
        for name in chosen.shows:
            for points in chosen.points:
                rates += SHOWN[name](browser, room, points, chosen.seconds)
                print(json.dumps([asdict(rate) for rate in rates[-2:]]), flush=True)
    print(table(rates))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(rate) for rate in rates], indent=1))


def exact_room() -> Prediction:
    """Return a room of the split ``val`` as a perfect model would predict it."""
    (scene,) = load_rooms("val", SIZE_HW, scenes=1)
    depth = np.asarray(scene.depth, np.float32)
    height, width = SIZE_HW
    return Prediction(
        np.asarray(scene.images, np.float32),
        tuple(f"{index}.png" for index in range(len(depth))),
        (FrameMap((width, height), (1.0, 1.0), (0.0, 0.0)),) * len(depth),
        cam_from_world=np.asarray(scene.cam_from_world, np.float32),
        intrinsics=np.asarray(scene.intrinsics, np.float32),
        depth=depth,
        depth_conf=np.ones_like(depth),
    )


def opened(browser: Browser, url: str, ready: str) -> Page:
    """Return a page that counts what it draws, once an element is there."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
    page.set_default_timeout(TIMEOUT_MS)
    page.add_init_script(COUNTER)
    page.goto(url)
    page.wait_for_selector(ready, state="attached")
    return page


def dragged(page: Page, seconds: float) -> tuple[float, float]:
    """Drag the view to and fro, and return pictures a second and points in each.

    Args:
        page: with the counter.
        seconds: that are counted at least.
    """
    x, y = WIDTH / 2 - 100, HEIGHT / 2
    page.mouse.move(x, y)
    page.mouse.down()
    warmed = _drag_on(page, (x, y), WARM_S, WARM_PICTURES)
    counted = _drag_on(page, (x, y), seconds, PICTURES)
    page.mouse.up()
    took, pictures, points = (after - before for before, after in zip(warmed, counted, strict=True))
    return pictures / took, points / max(pictures, 1)


def _drag_on(page: Page, place: tuple[float, float], seconds: float, pictures: int) -> tuple[float, int, int]:
    """Drag for some seconds and pictures at least, and return the time, and the pictures and points drawn so far."""
    now = started, first, _ = _so_far(page)
    while (now[0] - started < seconds or now[1] - first < pictures) and now[0] - started < LONGEST_S:
        for _ in range(10):
            turn = 5 * time.monotonic()
            page.mouse.move(place[0] + 100 * math.sin(turn), place[1] + 20 * math.cos(turn))
        now = _so_far(page)
    return now


def _so_far(page: Page) -> tuple[float, int, int]:
    """Return the time, and the pictures and points drawn."""
    counted = page.evaluate("({ ...counted })")
    return time.monotonic(), counted["pictures"], counted["points"]


def viewer_rates(browser: Browser, room: Prediction, points: int, seconds: float) -> list[Rate]:
    """Return how fast the viewer draws a room, thinned and whole."""
    options, rates = ViewOptions(port=8400, max_points=points), []
    with serving(options) as server, closing(Viewer(server, options, Path("room"))) as viewer:
        viewer.show([Result(Path("room"), room, ResultInfo(drop_percent=0))])
        page = opened(browser, url_of(server), "text=Points")
        look = viewer.scene.look
        for thinned in (True, False):
            if not thinned:
                viewer.scene.refine = lambda *_, **__: None
                viewer.scene.moving = viewer.scene.slow = False
                viewer.scene.apply(look)
            per_s, drawn = dragged(page, seconds)
            rates.append(Rate("viewer", points, thinned, drawn=round(drawn), per_s=per_s))
        page.close()
    return rates


def page_rates(browser: Browser, room: Prediction, points: int, seconds: float) -> list[Rate]:
    """Return how fast a page draws a room, thinned and whole."""
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "room.html"
        write_page(file, {"room": room}, ExportOptions(max_points=points, drop_percent=0))
        page = opened(browser, file.as_uri(), "html[data-ready]")
        for thinned in (True, False):
            if not thinned:
                page.evaluate(WHOLE_PAGE)
            per_s, drawn = dragged(page, seconds)
            rates.append(Rate("page", points, thinned, drawn=round(drawn), per_s=per_s))
        page.close()
    return rates


SHOWN: dict[str, Callable[[Browser, Prediction, int, float], list[Rate]]] = {
    "viewer": viewer_rates,
    "page": page_rates,
}


def table(rates: list[Rate]) -> str:
    """Return a line for each number of points: pictures a second and points in each, thinned and as at rest."""
    lines = [
        "| | points | thinned: drawn | pictures a second | as at rest: drawn | pictures a second |",
        "|---|" + 5 * "--:|",
    ]
    for rate in (each for each in rates if each.thinned):
        rest = next(each for each in rates if (each.shows, each.points) == (rate.shows, rate.points) and each != rate)
        figures = (f"{each.drawn:,} | {each.per_s:.1f}" for each in (rate, rest))
        lines.append(f"| {rate.shows} | {rate.points:,} | {' | '.join(figures)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
