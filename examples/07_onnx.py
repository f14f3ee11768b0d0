"""A 4-bit checkpoint as an ONNX file, compared with the model, then run by ONNX Runtime alone.

python examples/07_onnx.py
"""

import numpy as np
import onnxruntime

import qvggt

options = qvggt.QuantizeOptions(scheme=qvggt.Scheme(bits=4, group_size=16))
qvggt.quantize_to("seeded:micro", "out/example-4bit", options=options, overwrite=True)  # "nano", or your VGGT-1B
report = qvggt.export_model("out/example-4bit", "out/example.onnx", qvggt.OnnxOptions((56, 42)), overwrite=True)
for check in report.checks:
    print(f"{check.frames} frames: largest difference {max(check.differences.values()):.1e}")

session = onnxruntime.InferenceSession("out/example.onnx", providers=["CPUExecutionProvider"])
images = np.random.default_rng(0).random((1, 5, 3, 42, 56), np.float32)  # RGB in 0..1
pose_enc, depth = (np.asarray(value) for value in session.run(["pose_enc", "depth"], {"images": images}))
print(f"poses {pose_enc.shape}, depth {depth.shape}")
