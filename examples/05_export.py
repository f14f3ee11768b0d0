"""A reconstruction in meters, then for COLMAP and as points, by the functions behind `qvggt scale` and `qvggt export`.

python examples/05_export.py
"""

import qvggt
from qvggt.weights.pretrained import sample_images

images = sample_images()
prediction = qvggt.reconstruct("nano", images)

# Two cameras whose distance you measured; a CSV of positions or "gps" (EXIF) does as well.
first, second = images[0].name, images[-1].name
metric, how = qvggt.to_meters(prediction, f"{first}:{second}=1.5m")
print(f"in meters now: {how}")

report = qvggt.export(metric, "out/example-points", "ply", overwrite=True)
print(f"{report.points} points, {report.bytes / 1e6:.1f} MB")
report = qvggt.export(metric, "out/example-colmap", "colmap", images=images[0].parent, overwrite=True)
print(f"COLMAP model of {report.frames} images and {report.points} points")
