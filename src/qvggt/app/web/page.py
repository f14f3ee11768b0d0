"""The page of the app: what is on it, and what happens on a click. The one file that knows Gradio's components."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from qvggt.app.web.downloads import DOWNLOADS, write_download
from qvggt.app.web.holder import ModelHolder, short_names
from qvggt.app.web.job import Job, opened, reconstruct_job, sentence, write_pictures, write_scene
from qvggt.app.web.sessions import Session, Sessions
from qvggt.app.web.uploads import SUFFIXES
from qvggt.options import AppOptions, Compute, ExportOptions
from qvggt.weights.pretrained import sample_images

CSS = """
.gradio-container { max-width: 1400px !important; }
#depth .thumbnail-lg { aspect-ratio: 2.2; }
@media (max-width: 640px) { #depth .grid-container { grid-template-columns: 1fr; } }
"""
_SAVE = """(path) => {
    const link = document.createElement("a");
    link.href = "gradio_api/file=" + path.split("/").map(encodeURIComponent).join("/");
    link.download = path.split("/").pop();
    document.body.append(link);
    link.click();
    link.remove();
}"""
"""Saves a file that the server wrote."""
_SHOW = "() => document.querySelector('#scene').scrollIntoView({behavior: 'smooth', block: 'nearest'})"
_CAMERA = {"video": {"facingMode": "environment", "width": {"ideal": 1920}, "height": {"ideal": 1440}}}
_BACK_CAMERA = gr.WebcamOptions(mirror=False, constraints=_CAMERA)
_FRAMES = 16
_PROGRESS = gr.Progress()
_COMPUTES = [mode for mode in get_args(Compute) if mode != "float"]


class Page:
    """The page and its events.

    Args:
        options: see ``AppOptions``.
        sessions: of the visitors.
        holder: of the model.
    """

    def __init__(self, options: AppOptions, sessions: Sessions, holder: ModelHolder) -> None:
        self._options, self._sessions, self._holder = options, sessions, holder
        with gr.Blocks(title="qvggt", analytics_enabled=False) as self.blocks:
            gr.Markdown("# qvggt\nPhotographs of one scene, or a video, become cameras, depth and points.")
            with gr.Row():
                with gr.Column(scale=2, min_width=320):
                    self._add_inputs()
                with gr.Column(scale=3, min_width=320):
                    self._add_outputs()
            self._connect()
        self.blocks.queue(max_size=options.limits.waiting, default_concurrency_limit=2)

    def _add_inputs(self) -> None:
        limits = self._options.limits
        self._files = gr.File(
            label=f"Up to {limits.images} photographs, or one video", file_count="multiple",
            file_types=["image", "video", *SUFFIXES], height=180, elem_id="files",
        )  # fmt: skip
        with gr.Accordion("Take photographs with the camera", open=False):
            self._camera = gr.Image(
                sources=["webcam"], type="filepath", format="jpeg", webcam_options=_BACK_CAMERA, show_label=False,
                elem_id="camera",
            )  # fmt: skip
        self._example = gr.Button("Use the example scene", size="sm")
        models = short_names(self._options.models)
        self._model = gr.Dropdown(models, value=models[0][1], label="Model", visible=len(models) > 1)
        with gr.Accordion("More options", open=False):
            self._compute = gr.Dropdown(_COMPUTES, value=self._options.compute, label="Compute mode")
            self._whole = gr.Checkbox(label="Keep the upper and lower ends of tall photographs")
            self._frames = gr.Slider(1, limits.images, min(_FRAMES, limits.images), step=1, label="Frames of a video")
        with gr.Row():
            self._run = gr.Button("Reconstruct", variant="primary", min_width=120)
            self._stop = gr.Button("Stop", min_width=80)
        self._notes = gr.Textbox(label="Progress, and notes on the quality", lines=5, max_lines=12, elem_id="notes")

    def _add_outputs(self) -> None:
        self._scene = gr.Model3D(
            label="Scene: drag to turn it, scroll or pinch to zoom", interactive=False, height=480, elem_id="scene",
            clear_color=(1.0, 1.0, 1.0, 1.0),
        )  # fmt: skip
        self._drop = gr.Slider(
            0, 99, ExportOptions.drop_percent, step=1, label="Hide the least sure points, in percent", elem_id="drop"
        )
        with gr.Row():
            self._formats = {name: gr.Button(f"↓ {name}", size="sm", min_width=100) for name in DOWNLOADS}
        self._saved = gr.Textbox(visible=False)
        self._depth = gr.Gallery(
            label="Photographs beside their depth: warm is near", columns=2, object_fit="contain", height="auto",
            buttons=["fullscreen"], elem_id="depth",
        )  # fmt: skip

    def _connect(self) -> None:
        hidden: dict[str, Any] = {"api_visibility": "private"}
        self._camera.input(self._add_photograph, [self._files, self._camera], [self._files, self._camera], **hidden)
        self._example.click(lambda: [str(path) for path in sample_images()], None, self._files, **hidden)
        self._run.click(self._begin, queue=False, **hidden).then(
            self._reconstruct,
            [self._files, self._model, self._compute, self._frames, self._whole, self._drop],
            [self._scene, self._notes, self._depth],
            concurrency_limit=1, show_progress_on=self._notes, **hidden,
        )  # fmt: skip
        self._stop.click(self._end, queue=False, **hidden)
        self._drop.release(self._redraw, self._drop, self._scene, trigger_mode="always_last", **hidden)
        for name, button in self._formats.items():
            button.click(self._downloader(name), self._drop, self._saved, show_progress_on=button, **hidden).success(
                None, self._saved, None, js=_SAVE, **hidden
            )
        self._scene.change(None, None, None, js=_SHOW, **hidden)
        self.blocks.unload(self._close)

    def _reconstruct(
        self,
        files: list[str] | None,
        model: str,
        compute: Compute,
        frames: int,
        whole: bool,
        drop_percent: float,
        request: gr.Request,
        progress: gr.Progress = _PROGRESS,
    ) -> tuple[Any, str, Any]:
        images = [Path(file) for file in files or ()]
        session, points = self._visit(request, images), self._options.limits.points
        job = Job(images, model, compute, frames=int(frames), mode="pad" if whole else "crop")
        try:
            notes = reconstruct_job(
                job, session, self._holder, self._options.limits,
                on_progress=partial(_show_progress, progress),
            )  # fmt: skip
            result = opened(session)
            scene = write_scene(result, session.folder, drop_percent, points)
            pictures = write_pictures(result, session.folder)
        except Exception as error:  # the scene before stays
            gr.Warning(said := sentence(error), title="Not done")
            return gr.skip(), said, gr.skip()
        return str(scene), notes, [(str(path), name) for path, name in pictures]

    def _redraw(self, drop_percent: float, request: gr.Request) -> str:
        session = self._visit(request)
        with _errors_in_words():
            return str(write_scene(opened(session), session.folder, drop_percent, self._options.limits.points))

    def _downloader(self, name: str) -> Callable[..., str]:
        def download(drop_percent: float, request: gr.Request) -> str:
            session, points = self._visit(request), self._options.limits.points
            with _errors_in_words():
                return write_download(name, opened(session), session.folder, drop_percent, points=points).as_posix()

        return download

    def _add_photograph(
        self, files: list[str] | None, photograph: str | None, request: gr.Request
    ) -> tuple[list[str], None]:
        both = [*(files or ()), *([photograph] if photograph else ())]
        self._visit(request, map(Path, both))
        return both, None

    def _begin(self, request: gr.Request) -> None:
        self._visit(request).stopped.clear()

    def _end(self, request: gr.Request) -> None:
        self._visit(request).stopped.set()

    def _close(self, request: gr.Request) -> None:
        self._sessions.close(request.session_hash or "")

    def _visit(self, request: gr.Request, uploads: Iterable[Path] = ()) -> Session:
        return self._sessions.visit(request.session_hash or "", uploads)


def _show_progress(progress: gr.Progress, stage: str, share: float) -> None:
    progress(share, desc=stage[:1].upper() + stage[1:])


@contextmanager
def _errors_in_words() -> Iterator[None]:
    """Show an error as one sentence on the page."""
    try:
        yield
    except Exception as error:
        raise gr.Error(sentence(error), title="Not done", print_exception=False) from None
