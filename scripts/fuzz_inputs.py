"""Valid small inputs of every reader, written to a folder, for `fuzz_readers`."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import fuzz_runs as runs
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import qvggt
from qvggt.calibration.sensitivity import Item, SensitivityReport, SensitivityRow, TaskLoss, read_sensitivity
from qvggt.calibration.unit_store import UnitResult, UnitStore
from qvggt.checkpoint.open import open_model
from qvggt.data.dataset import SequenceRecord, load_id_map, save_id_map
from qvggt.data.known import read_depth_image, read_positions
from qvggt.data.known_cameras import read_intrinsics, read_poses, read_rig
from qvggt.data.registry import open_dataset
from qvggt.data.rooms.export import Pictures, write_rooms
from qvggt.data.rooms.family import RoomFamily, RoomSplit
from qvggt.eval.plan import SceneTask
from qvggt.eval.results import SceneResult
from qvggt.eval.store import ResultStore
from qvggt.export.npz import load_prediction, save_prediction
from qvggt.images.exif import read_tags
from qvggt.images.preprocess import load_images
from qvggt.options import ImageOptions, QuantizeOptions
from qvggt.quant.affine import quantize
from qvggt.quant.scheme import Scheme
from qvggt.train.recipe import load_recipe
from qvggt.types import BlockId, FrameMap, LayerId, Prediction

SIZE = (28, 28)
OPTIONS = ImageOptions(28, 14)
ROOM = RoomSplit(RoomFamily(), 7, 1, 2)


@dataclass(frozen=True)
class Reader:
    """One reader of files.

    Attributes:
        write: writes a valid input into a folder.
        read: reads it and returns what it read; None stands for a damaged file that is written anew.
        sealed: whether the format has checksums, so that no change may be taken for good.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    sealed: bool = False


def digest(value: Any) -> str:
    """Return a hash of a value made of dataclasses, mappings, sequences, arrays and plain values."""
    found = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            item = item.detach().contiguous().view(torch.uint8).numpy() if item.dim() else item.item()
        if isinstance(item, np.ndarray):
            found.update(f"{item.dtype}{item.shape}".encode() + np.ascontiguousarray(item).tobytes())
        elif is_dataclass(item):
            add({field.name: getattr(item, field.name) for field in fields(item)})
        elif isinstance(item, dict):
            add(sorted(map(repr, item)))
            for key in sorted(item, key=repr):
                add(item[key])
        elif isinstance(item, (list, tuple)):
            found.update(f"[{len(item)}".encode())
            for part in item:
                add(part)
        else:
            found.update(repr(item).encode(errors="backslashreplace"))

    add(value)
    return found.hexdigest()


def _photo(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    u, v = np.meshgrid(np.linspace(0, 200, size[0]), np.linspace(0, 200, size[1]))
    Image.fromarray(np.stack((u, v, (u + v) / 2), -1).astype(np.uint8)).save(path, format=_FORMATS.get(path.suffix))
    return path


_FORMATS = {".JPG": "JPEG"}


def _depth(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size[::-1], 1500, np.uint16)).save(path)


def _text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def _matrix(path: Path, matrix: np.ndarray) -> None:
    _text(path, "\n".join(" ".join(f"{value:.6f}" for value in row) for row in matrix) + "\n")


def _pose(index: int) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = [[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]]
    pose[0, 3] = 0.25 * index
    return pose


def _dataset(name: str, *arguments: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        reader = open_dataset(name, folder, *arguments)
        records = reader.sequences()
        return records, reader.load(records[0], (0, 1), OPTIONS)

    return read


def _write_co3d(folder: Path) -> None:
    frames = []
    for number in range(50):
        name = f"apple/1_2_3/images/frame{number:06d}.jpg"
        depth = {"path": name + ".png", "scale_adjustment": 2.0, "mask_path": name + ".mask.png"}
        view = {"R": _pose(0)[:3, :3].tolist(), "T": [0.1 * number, 0.0, 1.0], "focal_length": [2.0, 2.0],
                "principal_point": [0.0, 0.0], "intrinsics_format": "ndc_isotropic"}  # fmt: skip
        frames.append({"sequence_name": "1_2_3", "frame_number": number, "viewpoint": view, "depth": depth,
                       "image": {"path": name, "size": list(SIZE)}})  # fmt: skip
        if number < 2:
            _photo(folder / name)
            _depth(folder / depth["path"])
            _photo(folder / depth["mask_path"])
    lists = {"test": [["1_2_3", number, "x"] for number in range(50)], "train": [], "val": []}
    _text(folder / "apple/set_lists/set_lists_fewview_dev.json", json.dumps(lists))
    for kind, entries in (
        ("frame", frames),
        ("sequence", [{"sequence_name": "1_2_3", "category": "apple", "viewpoint_quality_score": 0.9}]),
    ):
        (folder / f"apple/{kind}_annotations.jgz").write_bytes(gzip.compress(json.dumps(entries).encode()))


def _write_colmap_text(folder: Path) -> None:
    _text(folder / "sparse/0/cameras.txt", "# cameras\n1 PINHOLE 28 28 30.0 30.0 14.0 14.0\n")
    lines = ["# images"]
    for index in range(2):
        lines += [f"{index + 1} 0.9486832 0 0.3162277 0 0.1 0.2 {index} 1 {index}.png", "1.0 2.0 -1"]
        _photo(folder / f"images/{index}.png")
        (folder / "depth").mkdir(exist_ok=True)
    np.save(folder / "depth/0.npy", np.ones(SIZE, np.float32))
    _depth(folder / "depth_mm/1.png")
    _text(folder / "sparse/0/images.txt", "\n".join(lines) + "\n")


def _write_colmap_binary(folder: Path) -> None:
    _write_colmap_text(folder)
    model = folder / "sparse/0"
    for path in model.glob("*.txt"):
        path.unlink()
    (model / "cameras.bin").write_bytes(struct.pack("<QiiQQ4d", 1, 1, 1, 28, 28, 30.0, 30.0, 14.0, 14.0))
    images = struct.pack("<Q", 2)
    for index in range(2):
        images += struct.pack("<i7di", index + 1, 0.9486832, 0, 0.3162277, 0, 0.1, 0.2, index, 1)
        images += f"{index}.png".encode() + b"\0" + struct.pack("<Qddq", 1, 1.0, 2.0, -1)
    (model / "images.bin").write_bytes(images)


def _write_re10k(folder: Path) -> None:
    lines = ["https://example.org/video"]
    for index in range(2):
        pose = " ".join(f"{value:.6f}" for value in _pose(index)[:3].ravel())
        lines.append(f"{1000 + index} 0.9 0.9 0.5 0.5 0 0 {pose}")
        _photo(folder / f"frames/test/abc/{1000 + index}.png")
    _text(folder / "test/abc.txt", "\n".join(lines) + "\n")
    _text(folder / "test_sequences.txt", "abc\n")


def _write_scannet(folder: Path) -> None:
    scene = folder / "scans/scene0000_00"
    for index in range(2):
        _photo(scene / f"color/{index}.jpg")
        _depth(scene / f"depth/{index}.png")
        _matrix(scene / f"pose/{index}.txt", _pose(index))
    lens = np.eye(4)
    lens[0, 0] = lens[1, 1] = 30
    for kind in ("color", "depth"):
        _matrix(scene / f"intrinsic/intrinsic_{kind}.txt", lens)
    _text(folder / "scannetv2_train.txt", "scene0000_00\n")


def _write_seven_scenes(folder: Path) -> None:
    _text(folder / "chess/TestSplit.txt", "sequence3\n")
    for index in range(2):
        stem = f"chess/seq-03/frame-{index:06d}"
        _photo(folder / f"{stem}.color.png")
        _depth(folder / f"{stem}.depth.png")
        _matrix(folder / f"{stem}.pose.txt", _pose(index))


def _write_nrgbd(folder: Path) -> None:
    for index in range(2):
        _photo(folder / f"room/images/img{index}.png")
        _depth(folder / f"room/depth/depth{index}.png")
    _matrix(folder / "room/poses.txt", np.concatenate([_pose(0), _pose(1)]))


def _write_eth3d(folder: Path) -> None:
    for kind, prefix, camera in (
        ("undistorted", "dslr_images_undistorted", "PINHOLE 28 28 30 30 14 14"),
        ("jpg", "dslr_images", "THIN_PRISM_FISHEYE 28 28 30 30 14 14 0.01 0 0 0 0 0 0 0"),
    ):
        calibration = folder / f"hall/dslr_calibration_{kind}"
        _text(calibration / "cameras.txt", f"0 {camera}\n")
        lines = [f"{index} 1 0 0 0 {index} 0 0 0 {prefix}/{index}.JPG\n\n" for index in range(2)]
        _text(calibration / "images.txt", "".join(lines))
    for index in range(2):
        _photo(folder / f"hall/images/dslr_images_undistorted/{index}.JPG")
        path = folder / f"hall/ground_truth_depth/dslr_images/{index}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(np.full(SIZE, 2.0, "<f4").tobytes())


def _write_prediction(folder: Path) -> None:
    frames, rng = 2, np.random.default_rng(0)
    maps = (FrameMap((56, 56), (0.5, 0.5), (0.0, 0.0)),) * frames
    arrays = {
        "images": (frames, 3, 14, 14), "cam_from_world": (frames, 3, 4), "intrinsics": (frames, 3, 3),
        "depth": (frames, 14, 14), "depth_conf": (frames, 14, 14), "world_points": (frames, 14, 14, 3),
    }  # fmt: skip
    values = {name: rng.random(shape, dtype=np.float32) + 1 for name, shape in arrays.items()}
    save_prediction(Prediction(names=("a.png", "b.png"), maps=maps, **values), folder / "prediction.npz")


RECORDS = (SequenceRecord("a/b", ("0.png", "1.png", "2.png")), SequenceRecord("c", ("x", "y")))
TASK = SceneTask(RECORDS[0], (1, 0))


def _store(folder: Path) -> ResultStore:
    return ResultStore(folder, {"dataset": "rooms", "split": "test"})


def _write_result(folder: Path) -> None:
    result = SceneResult("a/b", "", ("pose-standard",), 2, (0.25,), (1.5,), {"absrel": 0.125}, ("one note",))
    _store(folder).put(TASK, result)


def _write_units(folder: Path) -> None:
    weights = {LayerId("x.qkv"): quantize(torch.ones(4, 32), Scheme(4, 16))}
    store = UnitStore(folder / "s", {"seed": 0})
    store.put(BlockId("frame/0"), UnitResult(weights, {"x.norm": torch.ones(4)}, {"note": 1.5}))
    store.put_schemes({LayerId("x.qkv"): Scheme(4, 16)}, {"about": "x"})


def _read_units(folder: Path) -> Any:
    store = UnitStore(folder / "s", {"seed": 0})
    found, plan = store.get(BlockId("frame/0")), store.get_schemes()
    return None if found is None or plan is None else (found, plan)


def _write_sensitivity(folder: Path) -> None:
    loss = TaskLoss(*(0.5,) * len(fields(TaskLoss)))
    row = SensitivityRow(Item("frame/0", BlockId("frame/0"), "all", (LayerId("x"),)), Scheme(4, 16), loss, loss, 0.5, 9)
    _text(folder / "report.json", json.dumps(SensitivityReport("unit", loss, (row,), {}).to_json()))


def _state() -> dict[str, torch.Tensor]:
    return {name: tensor.half() for name, tensor in qvggt.load("seeded:micro").state_dict().items()}


def _config() -> dict[str, str]:
    return {"config": json.dumps(qvggt.load("seeded:micro").config.to_json())}


def _write_shards(folder: Path) -> None:
    state = _state()
    names = sorted(state)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: state[name] for name in own}, folder / file, _config())
    index = {"metadata": {}, "weight_map": {name: file for file, own in parts.items() for name in own}}
    _text(folder / "model.safetensors.index.json", json.dumps(index))


def _write_weights_with_config(folder: Path) -> None:
    save_file(_state(), folder / "model.safetensors")
    _text(folder / "config.json", json.dumps({"vggt": json.loads(_config()["config"])}))


def _read_model(name: str = "", verify: bool = False) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        opened = open_model(folder / name)
        if verify:
            opened.verify()
        return dict(opened.load().state_dict())

    return read


def _write_images(folder: Path) -> None:
    for ending in ("png", "jpg", "webp", "bmp", "gif", "tiff", "ppm"):
        _photo(folder / f"photo.{ending}")
    Image.fromarray(np.full(SIZE, 30_000, np.uint16)).save(folder / "deep.png")


def _write_known(folder: Path) -> None:
    _text(folder / "p.csv", "name,x,y,z\n0.png,1.0,2.0,3.0\n1.png,2.0,2.0,3.5\n")
    _text(folder / "t.txt", "# trajectory\n0.0 0.1 0.2 0.3 0 0 0 1\n1.0 0.5 0.2 0.3 0 0.6 0 0.8\n")
    pose = _pose(1)[:3].tolist()
    rig = {
        "cameras": {"a": {"cam_from_rig": np.eye(3, 4).tolist()}, "b": {"cam_from_rig": pose}},
        "groups": [{"a": "0.png", "b": "1.png"}],
    }
    _text(folder / "r.json", json.dumps(rig))
    _text(folder / "c.json", json.dumps({"unit": "meter", "frames": [{"name": "0.png", "cam_from_world": pose}]}))
    _depth(folder / "d.png")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 1.5), 3: "W", 4: (11.0, 34.0, 2.5), 6: 519.0, 31: 4.0})
    Image.new("RGB", SIZE).save(folder / "0.jpg", exif=exif)
    _write_colmap_text(folder)


def _read_known(folder: Path) -> Any:
    names, model = ("0.png", "1.png"), folder / "sparse/0"
    tags, rig = read_tags(folder / "0.jpg"), read_rig(folder / "r.json")
    poses = [read_poses(path, names) for path in (folder / "t.txt", folder / "c.json", model / "images.txt")]
    lenses = read_intrinsics(model / "cameras.txt", names, (FrameMap(SIZE, (1.0, 1.0), (0.0, 0.0)),) * 2)
    return [read_positions(folder / "p.csv"), read_depth_image(folder / "d.png"), tags, rig, poses, lenses]


READERS: dict[str, Reader] = {
    "4-bit checkpoint": Reader(
        lambda folder: qvggt.quantize_to("seeded:micro", folder / "m", "rtn", QuantizeOptions(Scheme(4, 16))),
        _read_model("m"), sealed=True,
    ),
    "weights, .safetensors": Reader(
        lambda folder: save_file(_state(), folder / "w.safetensors", _config()), _read_model("w.safetensors")
    ),
    "weights, config.json": Reader(_write_weights_with_config, _read_model()),
    "weights, shards": Reader(_write_shards, _read_model()),
    "weights, .pt": Reader(
        lambda folder: torch.save(_state(), folder / "w.pt"), _read_model("w.pt", verify=True), sealed=True
    ),
    "prediction.npz": Reader(_write_prediction, lambda folder: load_prediction(folder / "prediction.npz"), sealed=True),
    "CO3D": Reader(_write_co3d, _dataset("co3d")),
    "COLMAP, text": Reader(_write_colmap_text, _dataset("folder")),
    "COLMAP, binary": Reader(_write_colmap_binary, _dataset("folder")),
    "RealEstate10K": Reader(_write_re10k, _dataset("re10k")),
    "ScanNet": Reader(_write_scannet, _dataset("scannet")),
    "7-Scenes": Reader(_write_seven_scenes, _dataset("seven_scenes")),
    "NRGBD": Reader(_write_nrgbd, _dataset("nrgbd")),
    "ETH3D": Reader(_write_eth3d, _dataset("eth3d")),
    "index of rooms": Reader(
        lambda folder: write_rooms(folder / "r", ROOM, Pictures(SIZE)),
        lambda folder: write_rooms(folder / "r", ROOM, Pictures(SIZE)),
    ),
    "known values": Reader(_write_known, _read_known),
    "id map": Reader(
        lambda folder: save_id_map(folder / "map.json", {"a/b": (2, 0), "c": (1,)}, RECORDS),
        lambda folder: load_id_map(folder / "map.json", RECORDS),
    ),
    "sensitivities": Reader(_write_sensitivity, lambda folder: read_sensitivity(folder / "report.json")),
    "stored results": Reader(_write_result, lambda folder: _store(folder).get(TASK), sealed=True),
    "unfinished quantization": Reader(_write_units, _read_units, sealed=True),
    "training recipe": Reader(
        lambda folder: _text(folder / "r.json", (Path(qvggt.__file__).parent / "train/recipes/micro.json").read_text()),
        lambda folder: load_recipe(folder / "r.json"),
    ),
    "images": Reader(_write_images, lambda folder: load_images(sorted(folder.glob("*.*")), OPTIONS)),
    "video, MP4": Reader(lambda folder: runs.write_video(folder / "v.mp4"), runs.read_video),
    "video, Matroska": Reader(lambda folder: runs.write_video(folder / "v.mkv", "mjpeg"), runs.read_video),
    "result.json": Reader(runs.write_result, runs.read_result),
    "training run": Reader(runs.write_training, runs.read_training),
    "half-filled folder": Reader(runs.write_half_filled, runs.read_half_filled),
}  # fmt: skip
