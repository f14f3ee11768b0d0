"""``qvggt export``: what it prints, its JSON, and a video's frames with their times."""

import json

import numpy as np
import pytest
from commands import MODEL

from qvggt.export.result import ResultInfo, save_result


@pytest.fixture
def result(room, tmp_path):
    save_result(room, ResultInfo(), tmp_path / "result")
    return tmp_path / "result"


def test_export_prints_what_its_json_says(qvggt, result, tmp_path):
    done = qvggt("export", result, "-o", tmp_path / "out", "--format", "colmap", "--resolution", "processed",
                 "--max-points", "300", "--shared-camera", "--json", tmp_path / "figures.json")  # fmt: skip
    assert (done.status, done.err) == (0, "")
    figures = json.loads((tmp_path / "figures.json").read_text())
    error = f"mean reprojection error {figures['reprojection_error_px']:.2f} px"
    each = f"each seen in {figures['observations'] / 300:.1f} images on average"
    assert done.out.splitlines()[0] == (
        f"4 frames, 1 camera, 300 points, {each}, {error}; lengths in the unit of the model"
    )
    assert done.out.splitlines()[1].startswith(f"{tmp_path / 'out'}: images/, sparse/0/, ")
    assert figures["bytes"] == sum((tmp_path / "out" / name).stat().st_size for name in figures["files"])


def test_export_names_what_is_wrong(refused, result, tmp_path):
    arguments = ("export", result, "-o", tmp_path / "out", "--format")
    assert "--images" in refused(*arguments, "colmap")
    assert "at least 1" in refused(*arguments, "ply", "--max-points", "0")
    assert "prediction.npz" in refused("export", tmp_path, "-o", tmp_path / "out", "--format", "ply")


def test_export_of_a_video_has_its_frames_and_their_times(qvggt, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "walk.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", 10, width=64, height=48, pix_fmt="yuv420p")
        for index in range(9):
            picture = np.random.default_rng(index).integers(0, 255, (48, 64, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    result = tmp_path / "walk"
    assert qvggt("reconstruct", MODEL, tmp_path / "walk.mp4", "--frames", "3", "-o", result).status == 0
    done = qvggt("export", result, "-o", tmp_path / "path", "--format", "trajectory")
    assert "timestamps in seconds of the video" in done.out
    assert np.loadtxt(tmp_path / "path" / "tum.txt")[:, 0].tolist() == [0, 0.4, 0.8]
    assert qvggt("export", result, "-o", tmp_path / "scene", "--format", "nerfstudio").status == 0
    assert sorted(path.name for path in (tmp_path / "scene" / "images").iterdir()) == [
        f"walk.mp4_{number}.jpg" for number in (0, 4, 8)
    ]
