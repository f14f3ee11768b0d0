"""Photographs to cameras, depth and a point cloud, with the carried model and the sample scene.

python examples/01_reconstruct.py
"""

import qvggt
from qvggt.export import write_all
from qvggt.weights.pretrained import sample_images

model = qvggt.load("nano")  # or "facebook/VGGT-1B", a file, a folder, a quantized checkpoint
prediction = qvggt.reconstruct(model, sample_images())
assert prediction.cam_from_world is not None
assert prediction.depth is not None

print("camera centers, in the model's unit:")
for name, camera in zip(prediction.names, prediction.cam_from_world, strict=True):
    print(f"  {name}  {(-camera[:, :3].T @ camera[:, 3]).round(2)}")
print(f"depth {prediction.depth.min():.2f} to {prediction.depth.max():.2f}")
for name in write_all(prediction, "out/example"):
    print(f"wrote out/example/{name}")
