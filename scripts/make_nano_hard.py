"""Write ``src/qvggt/weights/pretrained/nano_hard.safetensors``: the tensors in which nano-hard differs from nano.

python scripts/make_nano_hard.py
"""

from __future__ import annotations

import torch
from safetensors.torch import save_file

import qvggt
from qvggt.data.rooms.family import load_rooms
from qvggt.train.nano_hard import harden
from qvggt.weights.open import EMBEDDED

SCENES = 16


def main() -> None:
    """Fit the detectors on calibration rooms and write the file."""
    model = qvggt.load("nano")
    side = model.config.image_size
    scenes = [torch.from_numpy(scene.images) for scene in load_rooms("calib", (side, side), scenes=SCENES)]
    save_file(harden(model, scenes), EMBEDDED["nano-hard"][-1], {"format": "pt"})


if __name__ == "__main__":
    main()
