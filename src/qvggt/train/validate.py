"""Quick figures of a model in training on held-out rooms."""

from __future__ import annotations

import numpy as np
import torch

from qvggt import geometry
from qvggt.data.rooms.family import load_rooms
from qvggt.eval.metrics.pose import auc, pose_errors
from qvggt.model import VGGT


@torch.inference_mode()
def validate(model: VGGT, image_px: int, landmarks: float, device: str, scenes: int = 32) -> dict[str, float]:
    """Return AUC@30 and AUC@5 (standard relative pose, 0..100), median errors and AbsRel (one scale a scene).

    Args:
        model: in evaluation or training mode; it has no dropout.
        image_px: side of the square images.
        landmarks: of the family of rooms.
        device: where the model is.
        scenes: number of rooms of the ``val`` split, 8 frames each.
    """
    rotation, translation, absrel = [], [], []
    for scene in load_rooms("val", (image_px, image_px), scenes=scenes, landmarks=landmarks):
        assert scene.cam_from_world is not None
        assert scene.depth is not None
        assert scene.valid is not None
        result = model(torch.from_numpy(scene.images)[None].to(device), heads=("camera", "depth"))
        cameras, _ = geometry.pose_encoding_to_cameras(result["pose_enc"][0].double().cpu(), (image_px, image_px))
        errors = pose_errors(cameras.numpy(), scene.cam_from_world)
        rotation.append(errors.rotation_deg)
        translation.append(errors.translation_deg)
        predicted = result["depth"][0, ..., 0].cpu().numpy()[scene.valid]
        truth = scene.depth[scene.valid]
        scale = np.median(truth / predicted)
        absrel.append(float(np.mean(np.abs(scale * predicted - truth) / truth)))
    rotations, translations = np.concatenate(rotation), np.concatenate(translation)
    worst = np.maximum(rotations, translations)
    return {
        "auc30": round(auc(worst, 30), 2),
        "auc5": round(auc(worst, 5), 2),
        "rotation_deg": round(float(np.median(rotations)), 2),
        "direction_deg": round(float(np.median(translations)), 2),
        "absrel": round(float(np.mean(absrel)), 4),
    }
