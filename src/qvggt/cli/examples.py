"""Example command lines, which every command's help ends with; tests parse each of them."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "reconstruct": (
        "qvggt reconstruct facebook/VGGT-1B photos/ -o room",
        "qvggt reconstruct vggt-4bit walk.mp4 --frames 20 -o house",
        "qvggt reconstruct vggt-4bit drive.mp4 --fps 2 --window 16 --memory 4GB -o drive",
        "qvggt reconstruct vggt-4bit --scenes 'captures/*/' -o results",
    ),
    "frames": ("qvggt frames walk.mp4 --number 40 -o frames",),
    "view": (
        "qvggt view house",
        "qvggt view house-float house-4bit",
        "qvggt view house --html house.html",
    ),
    "app": (
        "qvggt app",
        "qvggt app vggt-4bit facebook/VGGT-1B",
        "qvggt app vggt-4bit --host 0.0.0.0 --password-file password.txt",
    ),
    "scale": (
        "qvggt scale house --scale a.jpg:b.jpg=1.5m",
        "qvggt scale house --scale gps --align-world -o house-meters",
    ),
    "refine": (
        "qvggt refine house",
        "qvggt refine house -o house-refined --hold-focal",
    ),
    "export": (
        "qvggt export house -o house-colmap --format colmap",
        "qvggt export house -o house-depth --format depth --depth-files npy",
    ),
    "export-model": (
        "qvggt export-model vggt-4bit -o vggt-4bit.onnx",
        "qvggt export-model facebook/VGGT-1B -o vggt.onnx --size 518 392 --heads camera depth",
    ),
    "quantize": (
        "qvggt quantize facebook/VGGT-1B -o vggt-4bit",
        "qvggt quantize facebook/VGGT-1B -o vggt-4bit --method qvggt+ --calib photos/",
        "qvggt quantize nano -o nano-3bit --bits 3 --group-size 64",
    ),
    "push": (
        "qvggt push vggt-4bit USER/vggt-4bit --private",
        "qvggt push vggt-4bit USER/vggt-4bit --revision int4-g64",
    ),
    "evaluate": (
        "qvggt evaluate nano --scenes 16",
        "qvggt evaluate vggt-4bit --dataset co3d --data-root co3d/ --baseline facebook/VGGT-1B",
    ),
    "compare": ("qvggt compare nano --methods rtn gptq qvggt+ --bits 4 --plot compare.png",),
    "fidelity": (
        "qvggt fidelity facebook/VGGT-1B vggt-4bit photos/ --plot fidelity.png",
        "qvggt fidelity facebook/VGGT-1B vggt-4bit photos/ --card",
    ),
    "sensitivity": (
        "qvggt sensitivity facebook/VGGT-1B -o fragile.json --plot fragile.png",
        "qvggt sensitivity facebook/VGGT-1B -o fragile.json --calib photos/",
        "qvggt sensitivity nano -o plan.json --attention --products 0.5",
    ),
    "bench": (
        "qvggt bench vggt-4bit --against facebook/VGGT-1B --frames 1 8 --profile time.png",
        "qvggt bench seeded:vggt-1b --compute float32 bfloat16 --repeats 1",
    ),
    "plan": (
        "qvggt plan facebook/VGGT-1B --frames 30",
        "qvggt plan vggt-4bit photos/ --memory 4GB",
    ),
    "inspect": (
        "qvggt inspect nano --layers",
        "qvggt inspect vggt-4bit --verify",
    ),
    "train": ("qvggt train micro -o out/micro --minutes 5",),
    "render": ("qvggt render rooms -o rooms --scenes 16 --frames 8 --size 252",),
    "demo": (
        "qvggt demo",
        "qvggt demo -o out/three --bits 3",
    ),
    "doctor": (
        "qvggt doctor",
        "qvggt doctor --quick --json machine.json",
    ),
}
