"""Score one scene against ground truth, a float model, or chance.

An evaluator turns a scene into a result. The process that uses an evaluator makes it, because making one loads the
models; the partial of a function here that makes it is small and can be sent to other machines.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np

from qvggt.eval.ground_truth import unproject_maps
from qvggt.eval.point_protocols import PointProtocol
from qvggt.eval.protocols import DepthProtocol, PoseProtocol, Protocol, measure, measure_fidelity
from qvggt.eval.results import SceneResult
from qvggt.inference.windows import predict_windows
from qvggt.model import VGGT
from qvggt.options import ALL_HEADS, HEADS_FOR, Head, InferenceOptions
from qvggt.types import FrameMap, ImageSet, Prediction, Scene

Evaluator = Callable[[Scene], SceneResult]
LoadModel = Callable[[], VGGT]

_CHANCE_FOV_DEG = 60.0
_CHANCE_MOTION = 0.25  # standard deviation of camera positions, in units of the constant depth


def heads_for(protocols: Sequence[Protocol]) -> tuple[Head, ...]:
    """Return the heads that protocols need, in the order of ``ALL_HEADS``."""
    needed: set[Head] = set()
    for protocol in protocols:
        if isinstance(protocol, PoseProtocol):
            needed |= {"camera"}
        elif isinstance(protocol, DepthProtocol):
            needed |= {"depth"}
        elif isinstance(protocol, PointProtocol):
            needed.update(("point",) if protocol.head == "point" else ("camera", "depth"))
        else:
            needed |= set(ALL_HEADS)
    return tuple(head for head in ALL_HEADS if head in needed)


def passed_heads(protocols: Sequence[Protocol], options: InferenceOptions) -> tuple[Head, ...]:
    """Return the heads that run for protocols; with windows the camera and depth heads always do."""
    needed = {*heads_for(protocols), *(() if options.windows is None else HEADS_FOR["depth"])}
    return tuple(head for head in ALL_HEADS if head in needed)


def model_evaluator(
    load: LoadModel, protocols: Sequence[Protocol], options: InferenceOptions = InferenceOptions()
) -> Evaluator:
    """Return an evaluator of a model against ground truth."""
    model, heads = load(), passed_heads(protocols, options)
    return lambda scene: measure(scene, predict_scene(model, scene, heads, options), protocols)


def fidelity_evaluator(
    load: LoadModel, load_reference: LoadModel, options: InferenceOptions = InferenceOptions()
) -> Evaluator:
    """Return an evaluator of a model against another one, usually the float model, without ground truth."""
    model, reference = load(), load_reference()

    def compare(scene: Scene) -> SceneResult:
        wanted, found = (predict_scene(each, scene, ALL_HEADS, options) for each in (reference, model))
        return measure_fidelity(scene, wanted, found)

    return compare


def chance_evaluator(protocols: Sequence[Protocol]) -> Evaluator:
    """Return an evaluator of ``chance_prediction``, with NaN consistency: its points are made of its depth."""

    def chance(scene: Scene) -> SceneResult:
        result = measure(scene, chance_prediction(scene), protocols)
        return replace(result, values={k: math.nan if k == "consistency" else v for k, v in result.values.items()})

    return chance


def predict_scene(
    model: VGGT, scene: Scene, heads: Collection[Head], options: InferenceOptions = InferenceOptions()
) -> Prediction:
    """Return a model's prediction for a scene, finite or not."""
    return predict_windows(model, _image_set(scene), heads, options, finite=False)


def chance_prediction(scene: Scene) -> Prediction:
    """Return a prediction that ignores the images: cameras of one rotation at random positions, facing a flat wall.

    Rotations are the identity, positions follow a normal distribution (seeded by the scene's name), depth is 1
    everywhere, and points are that depth unprojected with those cameras and a field of view of 60 degrees.
    """
    frames, _, height, width = scene.images.shape
    seed = int.from_bytes(hashlib.sha256(scene.name.encode()).digest()[:8], "big")
    cameras = np.zeros((frames, 3, 4))
    cameras[:, :, :3] = np.eye(3)
    cameras[:, :, 3] = np.random.default_rng(seed).normal(0, _CHANCE_MOTION, (frames, 3))
    focal = width / 2 / math.tan(math.radians(_CHANCE_FOV_DEG / 2))
    lens = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    intrinsics = np.tile(lens, (frames, 1, 1))
    depth = np.ones((frames, height, width), dtype=np.float32)
    images = _image_set(scene)
    return Prediction(
        images=images.images,
        names=images.names,
        maps=images.maps,
        cam_from_world=cameras.astype(np.float32),
        intrinsics=intrinsics.astype(np.float32),
        depth=depth,
        world_points=unproject_maps(depth, intrinsics, cameras).astype(np.float32),
    )


def _image_set(scene: Scene) -> ImageSet:
    frames, _, height, width = scene.images.shape
    same = FrameMap((width, height), (1.0, 1.0), (0.0, 0.0))
    return ImageSet(scene.images, (same,) * frames, tuple(f"{scene.name}#{index}" for index in range(frames)))
