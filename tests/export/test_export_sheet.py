import numpy as np
import pytest
from PIL import Image

from qvggt.export.sheet import DPI, Pixels, Sheet


@pytest.mark.render
def test_a_picture_of_pixels_comes_out_as_it_is(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (DPI, 2 * DPI, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    sheet = Sheet(4.0, 3.0)
    sheet.axes(1.0, 0.5, 2.0, 1.0).add_artist(Pixels(rgba))
    sheet.save(tmp_path / "sheet.png")
    page = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGBA"))
    np.testing.assert_array_equal(page[DPI // 2 : DPI // 2 + DPI, DPI : 3 * DPI], rgba)
    assert (page[: DPI // 2] == page[0, 0]).all()
