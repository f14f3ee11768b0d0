"""Progress of long work: a bar on a terminal or below a notebook's cell, or a function of your own.

python examples/08_progress.py
"""

import qvggt
from qvggt.weights.pretrained import sample_images

with qvggt.progress_bar("nano") as update:
    model = qvggt.load("nano", on_progress=update)
    qvggt.quantize("nano", "rtn", on_progress=update)

stages = dict[str, float]()
prediction = qvggt.reconstruct(model, sample_images(), on_progress=stages.__setitem__)
print(f"stages: {', '.join(stages)}")
print(prediction)
