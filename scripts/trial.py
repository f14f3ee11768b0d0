"""What a new user does with an installed qvggt, one step a call, in the current folder.

    python scripts/trial.py STEP

Run by ``scripts/matrix.py`` with the Python of a fresh environment. The exit status is 77 if the machine lacks what
a step needs besides Python packages.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from headless import CHROMIUM, chromium

ROOT = Path(__file__).parents[1]
SKIPPED = 77
QVGGT = str(Path(sysconfig.get_path("scripts")) / "qvggt")


def qvggt(*arguments: str, **variables: str) -> None:
    """Run a command, which must end with status 0."""
    subprocess.run([QVGGT, *arguments], check=True, env={**os.environ, **variables})


def smoke() -> None:
    """The package comes from the environment; two photographs give depth, which can be saved."""
    import qvggt
    from qvggt.weights.pretrained import sample_images

    assert Path(qvggt.__file__ or "").is_relative_to(sys.prefix), qvggt.__file__
    prediction = qvggt.reconstruct(qvggt.load("nano"), sample_images()[:2])
    assert prediction.depth.shape[0] == 2
    assert (prediction.depth > 0).all()
    prediction.save("smoke")


def demo() -> None:
    """The first command of the README."""
    qvggt("demo", "--output", "demo")
    assert Path("demo/nano-4bit/model.safetensors").is_file()


def doctor() -> None:
    """The machine is described, and the installation computes the stored answers."""
    qvggt("doctor", "--json", "doctor.json")
    assert json.loads(Path("doctor.json").read_text(encoding="utf-8"))


def scenes(*arguments: str) -> None:
    """Three scenes in one command; the command is repeated and keeps them."""
    if not Path("rooms").exists():
        qvggt("render", "rooms", "-o", "rooms", "--scenes", "3", "--frames", "4", "--size", "112")
    for _ in range(2):
        qvggt("reconstruct", "nano", "--scenes", "rooms/*/images/", "-o", "scenes" + "".join(arguments), *arguments)
    assert len(list(Path("scenes" + "".join(arguments)).glob("*/result.json"))) == 3


def ray() -> None:
    """The same on a Ray cluster that begins and ends with the command."""
    scenes("--ray", "local")


def app() -> None:
    """The app starts, reconstructs the sample photographs in a browser, and stops at Ctrl-C."""
    if CHROMIUM is None:
        sys.exit(SKIPPED)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may be told to ignore it
    server = subprocess.Popen([QVGGT, "app", "--port", "7940"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = next(word for line in server.stdout for word in line.split() if word.startswith("http"))
        reconstruct_in_browser(url)
    finally:
        server.send_signal(signal.SIGINT)
        status = server.wait(60)
    assert status in (0, 130), status


def reconstruct_in_browser(url: str) -> None:
    """Upload the sample photographs and wait for the scene; the page is kept as app.png."""
    from playwright.sync_api import expect

    from qvggt.weights.pretrained import sample_images

    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(url)
        page.locator("#files input[type=file]").set_input_files(sample_images()[:4])
        page.get_by_text("003", exact=False).first.wait_for()
        page.get_by_role("button", name="Reconstruct", exact=True).click()
        notes = page.locator("#notes textarea")
        expect(notes).to_have_value(re.compile("frames of"), timeout=120_000)
        page.locator("#scene canvas").wait_for()
        page.screenshot(path="app.png")


def hub() -> None:
    """A checkpoint goes to a hub on this machine and is loaded from there."""
    sys.path.append(str(ROOT / "tests"))
    from fake_hub import serve

    hub, server = serve()
    variables = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_me",
        "HF_HOME": str(Path("hub").absolute()),
        "HF_HUB_DISABLE_XET": "1",  # a protocol with servers of its own
    }
    load = "import qvggt; assert qvggt.load('me/nano-4bit').config"
    try:
        qvggt("quantize", "nano", "-o", "pushed", "--method", "rtn", "--overwrite")
        qvggt("push", "pushed", "me/nano-4bit", **variables)
        subprocess.run([sys.executable, "-c", load], check=True, env={**os.environ, **variables})
    finally:
        server.shutdown()
        server.server_close()


def onnx() -> None:
    """ONNX Runtime computes what the model does."""
    for model, file in (("nano", "nano.onnx"), ("demo/nano-4bit", "nano-4bit.onnx")):
        qvggt("export-model", model, "-o", file, "--overwrite", "--json", f"{file}.json")
        checks = json.loads(Path(f"{file}.json").read_text(encoding="utf-8"))["checks"]
        assert max(value for check in checks for value in check["differences"].values()) < 1e-5, checks


def notebook() -> None:
    """A notebook runs from top to bottom."""
    sys.path.append(str(ROOT / "scripts"))
    from make_notebooks import FOLDER, executed

    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    executed(FOLDER / "reconstruct.ipynb")


class Step(NamedTuple):
    """A step, with the extras of qvggt and the packages that it needs."""

    run: Callable[[], None]
    extras: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


STEPS = {
    "smoke": Step(smoke),
    "demo": Step(demo),
    "doctor": Step(doctor),
    "scenes": Step(scenes),
    "ray": Step(ray, extras=("ray",)),
    "app": Step(app, extras=("app",), packages=("playwright",)),
    "hub": Step(hub),
    "onnx": Step(onnx, extras=("onnx",)),
    "notebook": Step(notebook, packages=("nbclient", "ipykernel")),
}
"""All steps in their order."""


if __name__ == "__main__":
    STEPS[sys.argv[1]].run()
