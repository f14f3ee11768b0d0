"""Many scenes on Ray: the bytes of one process, whatever dies."""

import json

import psutil
import pytest
from PIL import Image

from qvggt.api.reconstruct_scenes import reconstruct_scenes
from qvggt.options import LoadOptions, SceneOptions, WorkerOptions

pytestmark = pytest.mark.ray
pytest.importorskip("ray")

OPTIONS = SceneOptions(files=("prediction.npz", "points.ply"))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kill_workers():
    """Kill the Ray workers of this process that hold a scene, and return how many there were."""
    found = [each for each in psutil.Process().children(recursive=True) if "ray::_Worker" in " ".join(each.cmdline())]
    for each in found:
        each.kill()
    return len(found)


def test_reconstruct_scenes_on_ray_writes_the_bytes_of_one_process_although_workers_are_killed(tmp_path):
    for name in "abc":
        (tmp_path / "captures" / name).mkdir(parents=True)
        for index in range(2):
            Image.effect_noise((56, 56), 40 + index + ord(name)).convert("RGB").save(
                tmp_path / "captures" / name / f"{index}.png"
            )
    (tmp_path / "captures" / "none").mkdir()
    killed, places = [], (tmp_path / "one", tmp_path / "many")

    def run(place, workers, on_scene=None):
        return reconstruct_scenes(
            "seeded:micro", tmp_path / "captures" / "*", place, OPTIONS,
            loading=LoadOptions("cpu", "float32"), workers=workers, on_scene=on_scene,
        )  # fmt: skip

    alone = run(places[0], WorkerOptions(threads=1))
    many = run(
        places[1],
        WorkerOptions("local", workers=1, threads=1),
        on_scene=lambda scene: killed.append(0 if any(killed) else kill_workers()),
    )
    assert sum(killed) == 1
    assert contents(places[0]) == contents(places[1])
    assert many.to_json(seconds=False) == alone.to_json(seconds=False)
    assert [scene.name for scene in many.failed] == ["none"]
    assert json.loads((places[1] / "scenes.json").read_text())["failed"] == 1
    assert all(scene.kept for scene in run(places[0], WorkerOptions(threads=1)).scenes if not scene.error)
