"""``qvggt demo``: the whole way on the model and the scene that qvggt carries."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import tyro

from qvggt.cli.arguments import Json


def demo(
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR", help="folder to write to")] = Path("out/demo"),
    bits: Annotated[int, tyro.conf.arg(help="of a linear layer's weight, 2 to 8")] = 4,
    json: Json = None,
) -> None:
    """Quantize the nano model, reconstruct the sample scene with both models, and say how far they differ."""
    from qvggt import api
    from qvggt.artifacts import save_prediction
    from qvggt.cli.show import console, progress, size_text
    from qvggt.eval.fidelity import fidelity
    from qvggt.export import ExportOptions, write_all
    from qvggt.files import write_json
    from qvggt.methods.rtn import RtnOptions
    from qvggt.quant.scheme import Scheme
    from qvggt.zoo import sample_images, sample_truth

    checkpoint = output / f"nano-{bits}bit"
    started = time.perf_counter()
    report = api.quantize_to("nano", checkpoint, "rtn", RtnOptions(Scheme(bits, 64)), overwrite=True)
    console.print(f"quantized nano to {bits} bits in {time.perf_counter() - started:.1f} s: {checkpoint}")

    predictions = {}
    for name, model in (("float", "nano"), (f"{bits}-bit", str(checkpoint))):
        with progress(name) as update:
            predictions[name] = api.reconstruct(model, sample_images(), heads=("camera", "depth"), on_progress=update)
        folder = output / name
        save_prediction(predictions[name], folder / "prediction.npz", overwrite=True)
        write_all(predictions[name], folder, ExportOptions(title=f"nano, {name}"), "8 frames of the sample room")

    float_name, quantized_name = predictions
    far = fidelity(predictions[float_name], predictions[quantized_name]).means()
    truth = {name: sample_truth().errors(prediction) for name, prediction in predictions.items()}
    console.print(f"the {bits}-bit model against the float model, mean over frames:")
    console.print(
        f"  rotation {far['fidelity_rotation_deg']:.2f} deg, translation {far['fidelity_translation_deg']:.2f} deg"
    )
    console.print(f"  relative depth {far['fidelity_depth_rel']:.4f}")
    for name, errors in truth.items():
        console.print(f"{name} against the truth: AUC@30 {errors['auc30']:.1f}, relative depth {errors['absrel']:.3f}")
    console.print(
        f"bytes: float32 {size_text(report.float_bytes)}, {bits}-bit checkpoint {size_text(report.checkpoint_bytes)}"
    )
    for name in predictions:
        console.print(f"pictures: {output / name / 'overview.png'}, 3D: {output / name / 'scene.glb'}", soft_wrap=True)
    write_json(
        json,
        {
            "fidelity": far,
            "truth": truth,
            "float32_bytes": report.float_bytes,
            "checkpoint_bytes": report.checkpoint_bytes,
        },
    )
