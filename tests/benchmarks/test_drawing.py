"""How fluid a moving view is: the table, and what is counted in the browser."""

import shutil

import pytest

import drawing

RATES = [
    drawing.Rate("viewer", 300_000, True, drawn=37_500, per_s=4.0),
    drawing.Rate("viewer", 300_000, False, drawn=300_000, per_s=0.5),
    drawing.Rate("page", 300_000, False, drawn=300_000, per_s=2.0),
    drawing.Rate("page", 300_000, True, drawn=60_000, per_s=10.0),
]

POINTS = """<canvas id="c"></canvas><script>
const gl = document.getElementById("c").getContext("webgl2");
const draw = () => { gl.drawArrays(gl.POINTS, 0, 5); gl.drawArrays(gl.LINES, 0, 4); gl.drawArrays(gl.POINTS, 0, 2); };
</script>"""


def test_a_line_compares_a_moving_view_with_one_at_rest():
    lines = drawing.table(RATES).splitlines()[2:]
    assert lines == [
        "| viewer | 300,000 | 37,500 | 4.0 | 300,000 | 0.5 |",
        "| page | 300,000 | 60,000 | 10.0 | 300,000 | 2.0 |",
    ]


@pytest.mark.browser
def test_pictures_and_their_points_are_counted(tmp_path):
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no chromium in PATH")
    pytest.importorskip("playwright.sync_api")
    (tmp_path / "points.html").write_text(POINTS)
    with drawing.chromium() as browser:
        page = drawing.opened(browser, (tmp_path / "points.html").as_uri(), "canvas")
        next_picture = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        for _ in range(3):
            page.evaluate(f"draw(); {next_picture}")
        assert page.evaluate("counted") == {"pictures": 3, "points": 21}
