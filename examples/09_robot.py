"""A robot's loop: frames as NumPy arrays come in, the last few are a window, the pose of the newest goes out.

Frames that come while one is computed are dropped by the caller, as a camera's driver does: latency stays that of one
window. Each window is aligned to the one before it, so that all poses are in the first window's world and unit;
alignment errors accumulate.

python examples/09_robot.py
"""

import time
from collections import deque
from dataclasses import replace

import numpy as np
from PIL import Image

import qvggt
from qvggt.weights.pretrained import sample_images


class Tracker:
    """Poses of a moving camera from its last frames."""

    def __init__(self, model: str = "nano", window: int = 4) -> None:
        self.model = qvggt.load(model)
        self.frames: deque[np.ndarray] = deque(maxlen=window)
        self.count = 0
        self.before: qvggt.Prediction | None = None

    def step(self, frame: np.ndarray) -> np.ndarray:
        """Take an RGB frame [H, W, 3] of bytes; return its world_from_camera [4, 4], x right, y down, z forward."""
        self.frames.append(frame)
        self.count += 1
        names = [f"{self.count - len(self.frames) + i:06d}" for i in range(len(self.frames))]
        now = replace(qvggt.reconstruct(self.model, list(self.frames), mode="pad"), names=tuple(names))
        if self.before is not None:
            now = qvggt.transformed(now, qvggt.align(now, self.before))
        self.before = now
        assert now.cam_from_world is not None
        return np.linalg.inv(np.vstack([now.cam_from_world[-1], [0, 0, 0, 1]]))


if __name__ == "__main__":
    tracker = Tracker()
    for path in sample_images():  # or frames of a camera, as cv2.VideoCapture gives them, turned from BGR to RGB
        image = np.asarray(Image.open(path).convert("RGB"))
        start = time.perf_counter()
        pose = tracker.step(image)
        milliseconds = 1000 * (time.perf_counter() - start)
        print(f"{path.name}: camera at {pose[:3, 3].round(2)}, {milliseconds:.0f} ms")
