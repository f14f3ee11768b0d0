"""A camera that moves on: the last frames as a window, reconstructed at each new frame, all windows in one world.

Memory and time of a step are those of one window. Alignment errors accumulate; `qvggt reconstruct --window` does the
same for a whole video at once.

python examples/04_rolling_camera.py
"""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

import qvggt
from qvggt.weights.pretrained import sample_images

WINDOW = 4


def rolling(images: Iterable[Path]) -> Iterator[qvggt.Prediction]:
    """Yield the reconstruction of the last frames after each new one, in the world of the first window."""
    model = qvggt.load("nano")
    window: deque[Path] = deque(maxlen=WINDOW)
    before = None
    for image in images:  # or cv2.VideoCapture.read(), with a name for each frame
        window.append(image)
        now = qvggt.reconstruct(model, list(window), mode="pad")
        if before is not None:
            now = qvggt.transformed(now, qvggt.align(now, before))
        before = now
        yield now


print("camera centers, in the unit of the first window:")
for prediction in rolling(sample_images()):
    assert prediction.cam_from_world is not None
    assert prediction.depth is not None
    camera = prediction.cam_from_world[-1]
    center = -camera[:, :3].T @ camera[:, 3]
    print(f"  {prediction.names[-1]}  {center.round(2)}, median depth {np.median(prediction.depth[-1]):.2f}")
