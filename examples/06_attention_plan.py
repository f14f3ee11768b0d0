"""What each global block loses with less attention, and a plan that spends half of the products where they matter.

python examples/06_attention_plan.py
"""

import qvggt
from qvggt.weights.pretrained import sample_images

options = qvggt.AttentionOptions(choices=("frame", "sampled 2"), max_share=0.5)
calibration = qvggt.CalibrationOptions(scenes=2, frames=3)
report, planned = qvggt.attention_sensitivity("nano", options, calibration)
print(f"{planned.products_share:.2f} of the products of exact attention")
for index, block in enumerate(planned.plan.levels[0].blocks):
    print(f"  global block {index}: {block.kind} {block.side}")

images = sample_images()
exact = qvggt.reconstruct(qvggt.load("nano"), images)
fast = qvggt.reconstruct(qvggt.load("nano", global_attention=planned.plan), images)
assert exact.depth is not None
assert fast.depth is not None
print(f"mean change of depth: {abs(fast.depth / exact.depth - 1).mean():.2%}")
