"""``qvggt demo``: from quantization to reconstruction on the embedded model and sample scene."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from qvggt.cli import arguments as given
from qvggt.options import METHOD
from qvggt.quant.scheme import Scheme

_PAGE_POINTS = 70_000
"""Of each model in the page, which stays below 2 MB: small enough for mail."""


def demo(
    output: given.Output = Path("out/demo"),
    bits: Annotated[int, given.number("bits of linear layers' weights", metavar="2..8")] = Scheme.bits,
    json: given.Json = None,
) -> None:
    """Quantize the nano model, reconstruct the sample scene with both models, and compare them."""
    from qvggt.api import reconstruct as api
    from qvggt.api.quantize import quantize_to
    from qvggt.cli.show import check_figures, progress, save_figures, say
    from qvggt.eval.fidelity import fidelity
    from qvggt.eval.metrics.pose import auc, pose_errors
    from qvggt.export import write_all
    from qvggt.export.page import write_page
    from qvggt.export.result import ResultInfo, judged, save_result
    from qvggt.inference.process_memory import size_text
    from qvggt.options import ExportOptions, QuantizeOptions
    from qvggt.postprocess.frames import cameras_of
    from qvggt.weights.pretrained import sample_cameras, sample_images

    check_figures(json)
    started = time.perf_counter()
    checkpoint = output / f"nano-{bits}bit"
    report = quantize_to("nano", checkpoint, METHOD, QuantizeOptions(Scheme(bits, 64)), overwrite=True)
    say(f"quantized nano to {bits} bits in {time.perf_counter() - started:.1f} s")

    predictions = {}
    for name, model in (("float", "nano"), (f"{bits}-bit", str(checkpoint))):
        with progress(name) as update:
            network = api.load(model, device="cpu", compute="float32", on_progress=update)  # everywhere the same
            predictions[name] = api.reconstruct(network, sample_images(), heads=("camera", "depth"), on_progress=update)
        folder = output / name
        info = ResultInfo(str(model), tuple(map(str, sample_images())))
        save_result(predictions[name], judged(predictions[name], info), folder)
        write_all(predictions[name], folder, ExportOptions(title=f"nano, {name}"), "the sample room")
        count, _, height, width = predictions[name].images.shape
        say(f"reconstructed the sample scene, {count} images of {width}x{height} px, with the {name} model")

    float_name, packed_name = predictions
    far = fidelity(predictions[float_name], predictions[packed_name]).means()
    say(
        f"the {bits}-bit model differs from the float model by {far['fidelity_rotation_deg']:.2f} deg of rotation, "
        f"{far['fidelity_translation_deg']:.2f} deg of translation and "
        f"{100 * far['fidelity_depth_rel']:.1f} % of depth"
    )
    scores = {
        name: auc(pose_errors(cameras_of(p)[0], sample_cameras()).joint_deg, 30) for name, p in predictions.items()
    }
    say("pose AUC@30 against the true cameras: " + ", ".join(f"{name} {score:.1f}" for name, score in scores.items()))
    packed, whole = report.checkpoint_bytes, report.float_bytes
    say(f"float32 weights {size_text(whole)}, {bits}-bit checkpoint {size_text(packed)}: {whole / packed:.1f}x smaller")
    for name in predictions:
        say(f"pictures: {output / name / 'overview.png'}, 3D: {output / name / 'scene.glb'}")
    page = output / "compare.html"
    write_page(page, predictions, ExportOptions(max_points=_PAGE_POINTS, title=f"nano, float and {bits} bits"))
    say(f"done in {time.perf_counter() - started:.0f} s; open this page to compare both in 3D:")
    say(str(page))
    seconds = time.perf_counter() - started
    save_figures(json, far | {"auc30": scores, "float32_bytes": whole, "checkpoint_bytes": packed, "seconds": seconds})
