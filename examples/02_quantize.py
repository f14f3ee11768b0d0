"""A float model to 4 bits, in memory and as a checkpoint, and what that changes.

python examples/02_quantize.py
"""

import qvggt
from qvggt.eval.fidelity import fidelity
from qvggt.weights.pretrained import sample_images

options = qvggt.QuantizeOptions(scheme=qvggt.Scheme(bits=4, group_size=64))
report = qvggt.quantize_to("nano", "out/nano-4bit", options=options, overwrite=True)
print(f"{report.average_bits:.2f} bits a parameter, {report.checkpoint_bytes / 1e6:.1f} MB")

images = sample_images()
far = fidelity(qvggt.reconstruct("nano", images), qvggt.reconstruct("out/nano-4bit", images)).means()
for name, value in far.items():
    print(f"{name}: {value:.4f}")
