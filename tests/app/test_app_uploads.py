"""What visitors may give to the app."""

import pytest
from PIL import Image

from qvggt.app.web.uploads import check_uploads, take_uploads
from qvggt.options import AppLimits
from qvggt.types import QvggtError

LIMITS = AppLimits(images=3, file_mb=1, megapixels=1)


@pytest.fixture
def photo(tmp_path):
    def save(name, size=(40, 30)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", size, "red").save(path)
        return path

    return save


def test_photographs_within_the_limits_and_a_video_alone_pass(photo, tmp_path):
    check_uploads([photo("a.jpg"), photo("b.png"), photo("c.webp")], LIMITS)
    (tmp_path / "walk.MP4").write_bytes(b"x")
    check_uploads([tmp_path / "walk.MP4"], LIMITS)


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ([], "add photographs or a video"),
        (["1.jpg", "2.jpg", "3.jpg", "4.jpg"], "got 4 photographs, and at most 3"),
        (["1.jpg", "walk.mov"], "walk.mov is a video"),
        (["text.pdf"], "text.pdf is neither a photograph nor a video"),
        (["large.jpg"], "large.jpg has 2 megapixels.* at most 1 "),
        (["heavy.mp4"], "heavy.mp4 has 2 MB.* at most 1 MB"),
        (["broken.jpg"], "broken.jpg is not a readable image"),
        (["gone.jpg"], "gone.jpg is gone.* add it again"),
    ],
)
def test_what_is_refused_is_one_sentence(photo, tmp_path, names, part):
    for name in names:
        if name == "large.jpg":
            photo(name, (2000, 1000))
        elif name == "heavy.mp4":
            (tmp_path / name).write_bytes(bytes(2_000_000))
        elif name in ("broken.jpg", "text.pdf", "walk.mov"):
            (tmp_path / name).write_bytes(b"nothing")
        elif name != "gone.jpg":
            photo(name)
    with pytest.raises(QvggtError, match=part) as caught:
        check_uploads([tmp_path / name for name in names], LIMITS)
    assert "\n" not in str(caught.value)


def test_equal_names_are_numbered_and_earlier_files_go(photo, tmp_path):
    place = tmp_path / "photos"
    first = [photo("a/image.jpg"), photo("b/image.jpg"), photo("c.jpg")]
    assert [path.name for path in take_uploads(first, place)] == ["image.jpg", "image-2.jpg", "c.jpg"]
    assert [path.name for path in take_uploads(first[:1], place)] == ["image.jpg"]
    assert [path.name for path in place.iterdir()] == ["image.jpg"]
    assert all(path.exists() for path in first)


def test_files_are_copied_where_they_cannot_be_linked(photo, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    (taken,) = take_uploads([photo("a.jpg")], tmp_path / "photos")
    assert taken.read_bytes() == (tmp_path / "a.jpg").read_bytes()


@pytest.mark.parametrize("values", [{"images": 0}, {"file_mb": 0}, {"megapixels": -1}, {"points": 0}, {"waiting": 0}])
def test_limits_are_positive(values):
    with pytest.raises(QvggtError, match="at least 1"):
        AppLimits(**values)
