"""Prints what the library computes under another default dtype or device; ``test_defaults`` runs this.

Arguments: ``dtype`` or ``device``, its value, a 4-bit checkpoint of ``nano``, and a method to calibrate by.
"""

import hashlib
import json
import sys
from dataclasses import replace

import torch

kind, value, checkpoint, method = sys.argv[1:]
torch.set_num_threads(1)
if kind == "dtype":
    torch.set_default_dtype(getattr(torch, value))
else:
    torch.set_default_device(value)

import qvggt  # noqa: E402
from quantizing import OPTIONS, ROOMS, SAMPLE, small_model  # noqa: E402
from qvggt.data.rooms.family import RoomFamily, room_scene  # noqa: E402
from qvggt.nn.convert import stored_tensors  # noqa: E402
from qvggt.options.evaluation import Selection  # noqa: E402
from qvggt.options.inference import WindowOptions  # noqa: E402

PICTURES = sorted(SAMPLE.glob("*.jpg"))


def digest(*arrays):
    return [hashlib.sha256(str((a.dtype, a.shape)).encode() + a.tobytes()).hexdigest()[:16] for a in arrays]


def reconstruct(compute):
    model = qvggt.load(checkpoint, compute=compute)
    found = qvggt.reconstruct(model, PICTURES[:2])
    return digest(found.depth, found.cam_from_world, found.intrinsics, found.world_points)


def windows_with_merged_tokens():
    model = qvggt.load("nano", global_attention="merged")
    found = qvggt.reconstruct(model, PICTURES[:3], windows=WindowOptions(frames=2, overlap=1))
    return digest(found.depth, found.cam_from_world)


def calibrate():
    model = qvggt.quantize(small_model(), method, replace(OPTIONS, calibration=ROOMS))
    return digest(*(tensor.detach().float().numpy() for _, tensor in stored_tensors(model)))


def room():
    found = room_scene(1, 2, (24, 32), RoomFamily(degrade=True))
    return digest(found.images, found.depth, found.cam_from_world)


def evaluate():
    found = qvggt.evaluate("nano", "rooms", selection=Selection(scenes=1, frames=2))
    return {name: repr(value) for name, value in found.to_json()["metrics"].items()}


answers = {
    "float": reconstruct("float"),
    "int8": reconstruct("int8"),
    "windows": windows_with_merged_tokens(),
    "calibrate": calibrate(),
    "room": room(),
    "evaluate": evaluate(),
}
sys.stdout.write(json.dumps(answers))
