"""Draws ``images/page*.png``: the page that ``qvggt demo`` writes, in headless Chromium.

Run as ``qvggt demo && python docs/make_page_pictures.py out/demo/compare.html``, with playwright and Chromium.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from headless import chromium

IMAGES = Path(__file__).parent / "images"
PICTURES = {
    "page.png": ({"width": 1280, "height": 800}, ("side by side", "image")),
    "page-difference.png": ({"width": 1280, "height": 800}, ("4-bit", "difference")),
}


def main(page: Path) -> None:
    """Open the page once per picture, choose what it shows, and write what is seen."""
    with chromium() as browser:
        for name, (size, choices) in PICTURES.items():
            tab = browser.new_page(viewport=size, reduced_motion="reduce", color_scheme="dark")
            tab.goto(page.resolve().as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached")
            for choice in choices:
                tab.locator("#panel label", has_text=choice).first.click()
            tab.wait_for_timeout(2000)
            tab.screenshot(path=IMAGES / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
