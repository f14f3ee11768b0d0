"""Images and videos that are missing, damaged, tiny, alone or strangely named."""

import os

import pytest
from commands import MODEL, draw
from PIL import Image

from qvggt.export.npz import load_prediction

FILES = {"prediction.npz", "result.json", "points.ply", "scene.glb", "cameras.json", "depth", "overview.png"}


def reconstructed(qvggt, output, *images):
    done = qvggt("reconstruct", MODEL, *images, "-o", output)
    assert done.status == 0, done
    assert {path.name for path in output.iterdir() if not path.name.startswith(".qvggt")} == FILES
    return done, load_prediction(output / "prediction.npz")


def test_an_empty_folder(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    sentence = refused("reconstruct", MODEL, tmp_path / "empty", "-o", tmp_path / "out")
    assert "no images" in sentence


def test_a_folder_that_does_not_exist(refused, tmp_path):
    assert "does not exist" in refused("reconstruct", MODEL, tmp_path / "none", "-o", tmp_path / "out")


def test_a_pattern_that_matches_nothing(refused, tmp_path):
    assert "nothing matches" in refused("reconstruct", MODEL, tmp_path / "*.jpg", "-o", tmp_path / "out")


def test_images_are_looked_for_before_the_model(refused, tmp_path):
    sentence = refused("reconstruct", tmp_path / "no-model", tmp_path / "no-images", "-o", tmp_path / "out")
    assert "no-images" in sentence


def test_text_files_with_the_names_of_images(refused, tmp_path):
    for index in range(3):
        (tmp_path / f"letter{index}.jpg").write_text("Dear reader,")
    sentence = refused("reconstruct", MODEL, tmp_path, "-o", tmp_path / "out")
    assert "none of the 3 images" in sentence
    assert "letter0.jpg" in sentence


def test_one_unreadable_image_among_good_ones_is_left_out_with_a_warning(qvggt, photos, tmp_path):
    (photos / "p9.jpg").write_bytes(b"no image")
    done, prediction = reconstructed(qvggt, tmp_path / "out", photos)
    assert prediction.names == ("p0.jpg", "p1.jpg")
    assert done.err.startswith("qvggt: warning: skipped 1 of the 3 images")
    assert done.err.count("\n") == 1
    assert "p9.jpg" in done.err


def test_a_truncated_jpeg_named_by_itself(refused, photos, tmp_path):
    whole = (photos / "p0.jpg").read_bytes()
    (photos / "p0.jpg").write_bytes(whole[: len(whole) // 2])
    sentence = refused("reconstruct", MODEL, photos / "p0.jpg", photos / "p1.jpg", "-o", tmp_path / "out")
    assert "p0.jpg" in sentence
    assert "damaged or cut short" in sentence


def test_one_image_of_one_pixel(qvggt, tmp_path):
    image = draw(tmp_path / "dot.png", width=1, height=1)
    done, prediction = reconstructed(qvggt, tmp_path / "out", image)
    assert done.err == ""
    assert "1 frame of 56x56 px" in done.out
    assert prediction.maps[0].original_size == (1, 1)


def test_portraits_that_are_cropped_are_one_line(qvggt, tmp_path):
    for index, height in enumerate((40, 80, 120)):
        draw(tmp_path / "tall" / f"{index}.png", index, 60, height)
    done, _ = reconstructed(qvggt, tmp_path / "out", tmp_path / "tall")
    assert done.err == (
        "qvggt: warning: 2 of 3 images cropped to a square: up to 50 % of the height is cut off; "
        'use --mode pad (mode="pad") to keep all of it\n'
    )
    assert qvggt("reconstruct", MODEL, tmp_path / "tall", "-o", tmp_path / "padded", "--mode", "pad").err == ""


def test_frames_taken_of_a_video_are_one_line(qvggt, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "walk.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 56, 56
        for index in range(21):
            with Image.open(draw(tmp_path / "frame.png", index)) as image:
                container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    done, _ = reconstructed(qvggt, tmp_path / "out", tmp_path / "walk.mp4", "--frames", 3)
    assert done.err == f"qvggt: taking 3 of the 21 frames of {str(tmp_path / 'walk.mp4')!r}\n"


def test_a_folder_of_which_most_is_unreadable(refused, photos, tmp_path):
    for index in range(3):
        (photos / f"q{index}.jpg").write_bytes(b"no image")
    sentence = refused("reconstruct", MODEL, photos, "-o", tmp_path / "out")
    assert "only 2 of the 5 images" in sentence
    assert "name the readable files one by one" in sentence


@pytest.mark.parametrize("kind", ["empty", "text", "no frames"])
def test_a_video_without_frames(refused, tmp_path, kind):
    video = tmp_path / "walk.avi"
    video.write_bytes({"empty": b"", "text": b"no video at all"}.get(kind, b""))
    if kind == "no frames":
        av = pytest.importorskip("av")
        with av.open(str(video), "w") as container:
            container.add_stream("mpeg4", rate=25).width = 64
            container.streams.video[0].height = 64
    sentence = refused("reconstruct", MODEL, video, "-o", tmp_path / "out")
    assert "walk.avi" in sentence


@pytest.mark.parametrize("choice", [("--frames", "0"), ("--fps", "0"), ("--dense-frames", "0"), ("--max-points", "0")])
def test_a_number_that_leaves_nothing(refused, photos, tmp_path, choice):
    assert "must be" in refused("reconstruct", MODEL, photos, "-o", tmp_path / "out", *choice)


def test_damaged_exif_data_needs_no_word(qvggt, tmp_path):
    image = draw(tmp_path / "a.png")
    with Image.open(image) as opened:
        opened.convert("RGB").save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff\xff\xff")
    done, _ = reconstructed(qvggt, tmp_path / "out", tmp_path / "a.jpg")
    assert done.err == ""


def test_a_loop_of_links(refused, tmp_path):
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    sentence = refused("reconstruct", MODEL, tmp_path / "a.jpg", "-o", tmp_path / "out")
    assert "symbolic link" in sentence
    assert "symbolic link" in refused("reconstruct", MODEL, tmp_path, "-o", tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["a b\nc \u00fc\u4e2d [bold] :smile: [x]", os.fsdecode(b"caf\xe9")], ids=["text", "bytes"]
)
def test_strange_names_work_as_input_and_output(qvggt, tmp_path, name):
    image = draw(tmp_path / name / f"{name}.png")
    done, prediction = reconstructed(qvggt, tmp_path / "[" / f"x] {name}", image.parent)
    assert done.err == ""
    assert len(prediction.names) == 1
    assert qvggt("quantize", MODEL, "-o", tmp_path / name / "4bit").status == 0
    assert qvggt("inspect", tmp_path / name / "4bit", "--json", tmp_path / f"{name}.json").status == 0
    assert (tmp_path / f"{name}.json").stat().st_size > 1000
