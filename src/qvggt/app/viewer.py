"""The viewer: results on a server, with what its panel can do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qvggt.app.cloud import display_cloud, needed_level
from qvggt.app.compare import Comparison, compare_results
from qvggt.app.controls import Controls, Tools
from qvggt.app.measure import Ruler
from qvggt.app.pace import Pace
from qvggt.app.saving import file_bytes, frame_pictures, in_meters, save_as, screenshot, turntable
from qvggt.app.scene import RADIUS, Layer, Look, Scene
from qvggt.app.server import serving, url_of
from qvggt.export.moving import FRAMES_PER_SECOND, moving_kind, moving_picture
from qvggt.export.result import Result, as_shown
from qvggt.options import PointsFrom, ViewOptions
from qvggt.postprocess.ground import find_ground
from qvggt.types import Prediction, QvggtError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viser import CameraHandle, ClientHandle, SceneClickEvent, ViserServer

_WINDOWS = 10
"""Share of the points that each window of a running reconstruction gets: one tenth."""

_EXTENT = 1.7
"""Radius within which most points of a scene lie, relative to their median distance from its center."""

_HALF_WIDTH = 0.65
"""Half the width of a scene at first, relative to its distance."""

_BESIDE_PANEL = 0.15
"""How far a scene is at first left of the window's center, which the panel leaves free, relative to its distance."""


def view(results: Sequence[Result], options: ViewOptions, on_ready: Callable[[str], None]) -> None:
    """Serve one result, or two to compare, until the process is interrupted.

    Args:
        results: one or two.
        options: where to listen, and how many points to send.
        on_ready: called with the address once the scene can be opened.

    Raises:
        QvggtError: viser is not installed, no port is free, a result has no points, or two cannot be compared.
    """
    comparison = compare_results(*as_shown(results)) if len(results) == 2 else None
    with serving(options) as server, closing(Viewer(server, options, results[0].folder, comparison)) as viewer:
        viewer.show(results)
        with suppress(KeyboardInterrupt):
            on_ready(url_of(server))
            wait_for_interrupt()


def wait_for_interrupt() -> None:
    """Wait until the user ends the program."""
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


class Viewer:
    """The scene and the panel in the browsers that are connected to a server.

    Args:
        server: to fill.
        options: how many points to send.
        folder: of the first result.
        comparison: of the two results that will be shown, or None.
    """

    def __init__(
        self, server: ViserServer, options: ViewOptions, folder: Path, comparison: Comparison | None = None
    ) -> None:
        self._server, self._options, self._comparison = server, options, comparison
        self._results: Sequence[Result] = ()
        self._lock = threading.RLock()
        self._entered: dict[int, tuple[int, int, np.ndarray]] = {}
        self._scale: float | None = None
        look = Look()
        if comparison is not None:
            look = replace(look, color="difference", layout="side by side", top=comparison.top)
        server.gui.configure_theme(show_logo=False, show_share_button=False, brand_color=(46, 109, 180))
        server.scene.configure_default_lights(cast_shadow=False)  # nothing here is lit, and drawing shadows takes long
        self.scene = Scene(server, self._enter)
        self._pace = Pace(self._rest)
        self.scene.look = look
        self.ruler = Ruler(server, self.scene)
        self.controls = Controls(server, self.scene, look, compared=comparison is not None)
        self._tools = Tools(server, f"{folder}-meters")
        self._connect()
        server.on_client_connect(self._welcome)

    def show(self, results: Sequence[Result]) -> None:
        """Show one result, or the two that were compared, in place of what is shown."""
        if self._comparison is None:
            (shown,), others, heat = as_shown(results), [], None
        else:
            shown, others, heat = self._comparison.first, [self._comparison.aligned], self._comparison.differences
        info, most = shown.info, self._options.max_points
        layers = [replace(self._layer(each, info.points_from, most), heat=heat) for each in (shown.prediction, *others)]
        with self._lock:
            first = not self.scene.layers
            self._results = results
            self.ruler.meters = 1.0 if info.unit == "meter" else None
            self.controls.drop_percent = info.drop_percent
            self.scene.look = self.controls.look
            self.scene.show(layers, find_ground(layers[0].cloud.points, layers[0].prediction.cam_from_world))
            self.controls.status.content = self._status()
            self._place_browsers(first)

    def close(self) -> None:
        """Draw nothing any more on its own."""
        self._pace.stop()

    def add(self, part: Prediction, source: PointsFrom) -> None:
        """Show frames of a running reconstruction beside those that are shown, in the same world."""
        layer = self._layer(part, source, -(-self._options.max_points // _WINDOWS))
        with self._lock:
            first = not self.scene.layers
            if first:
                self.scene.show([layer], find_ground(layer.cloud.points, part.cam_from_world))
            else:
                self.scene.add(layer)
            count = sum(len(each.prediction.names) for each in self.scene.layers)
            self.controls.status.content = f"{count} frames so far; the reconstruction is still running."
            self._place_browsers(first)

    @staticmethod
    def _layer(prediction: Prediction, source: PointsFrom, max_points: int) -> Layer:
        return Layer(prediction, display_cloud(prediction, source, max_points))

    def _place_browsers(self, first: bool) -> None:
        """Set where browsers stand at first; those that are connected move there if the scene was empty."""
        place, target = self.start()
        cameras = [self._server.initial_camera, *(each.camera for each in self._server.get_clients().values() if first)]
        for camera in cameras:
            camera.position, camera.look_at = place, target

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where a browser stands at first, and what it looks at: from behind the cameras, a little higher."""
        layers = [index for index in range(len(self.scene.layers)) if self.scene.shown(index)]
        points = np.concatenate([self.scene.positions(index) for index in layers])
        target = np.mean([np.median(self.scene.positions(index), axis=0) for index in layers], axis=0)
        prediction = self.scene.layers[0].prediction
        cameras = []
        if prediction.cam_from_world is not None:
            cameras = [self.scene.camera(0, frame) for frame in range(len(prediction.names))]
        level = self.scene.facing()
        behind = max((float((target - place) @ level[:, 2]) for place, _ in cameras), default=0.0) + 0.3 * RADIUS
        low, high = np.percentile((points - target) @ level[:, 0], (2, 98))
        distance = max(behind, float(max(-low, high)) / _HALF_WIDTH, RADIUS)
        target = target + _BESIDE_PANEL * distance * level[:, 0]
        return target + distance * (np.array([0.0, 0.0, 0.4]) - level[:, 2]), target

    def _status(self) -> str:
        first = self._results[0]
        count = len(first.prediction.names)
        unit = "meters" if self.ruler.meters is not None else "the model's unit, which is not meters"
        points = f"{len(self.scene.layers[0].cloud):,} points of {count} frames; lengths are in {unit}."
        if self._comparison is None:
            return f"**{first.folder.resolve().name}** {points}"
        middle, most = (100 * self._comparison.quantile(share) for share in (0.5, 0.95))
        names = [result.folder.resolve().name for result in self._results]
        return (
            f"**A** {names[0]}, **B** {names[1]}: {points}\n\n"
            f"Half of B's points, aligned with A, are off by less than {middle:.2g} % of their depth, "
            f"95 % by less than {most:.2g} %."
        )

    def _connect(self) -> None:
        tools = self._tools
        tools.screenshot.on_click(lambda event: self._do(event.client, self._screenshot))
        tools.turntable.on_click(lambda event: self._do(event.client, self._turntable))
        tools.download.on_click(lambda event: self._do(event.client, self._download))
        tools.save.on_click(lambda event: self._do(event.client, self._save))
        tools.scale.on_click(lambda event: self._do(event.client, self._set_scale))
        tools.picking.on_update(lambda _event: self._toggle_picking())

    def _welcome(self, client: ClientHandle) -> None:
        client.camera.on_update(self._moved)

    def _moved(self, camera: CameraHandle) -> None:
        """Choose the level of detail by the nearest browser, and show a camera again once a browser has left it."""
        clients = self._server.get_clients().values()
        pixels = [_scene_px(client.camera) for client in clients]
        self._pace.moved()
        with self._lock:
            count = sum(len(layer.cloud) for layer in self.scene.layers)
            self.scene.refine(needed_level(count, max(pixels, default=np.inf)), self._pace.moving, self._pace.slow)
            entered = self._entered.get(camera.client.client_id)
            if entered is not None and np.linalg.norm(camera.position - entered[2]) > 0.1 * RADIUS:
                del self._entered[camera.client.client_id]
                self.scene.hide_frustum(entered[0], entered[1], False)

    def _rest(self) -> None:
        """Draw all points again."""
        with self._lock:
            self.scene.refine(self.scene.detail, moving=False, slow=self._pace.slow)

    def _enter(self, layer: int, frame: int, client: ClientHandle) -> None:
        """Fly to a camera, and show its photograph beside its depth, unless the click was to pick a point."""
        if self._tools.picking.value:
            return
        prediction = self.scene.layers[layer].prediction
        self._tools.show_photo(
            next(frame_pictures(prediction, [frame])), f"{prediction.names[frame]}, beside its depth"
        )
        place, rotation = self.scene.camera(layer, frame)
        with self._lock:
            before = self._entered.pop(client.client_id, None)
            if before is not None:
                self.scene.hide_frustum(before[0], before[1], False)
            _fly(client, place, rotation)
            self._entered[client.client_id] = (layer, frame, place)
            self.scene.hide_frustum(layer, frame, True)

    def _toggle_picking(self) -> None:
        with self._lock:
            self._server.scene.remove_click_callback()
            if self._tools.picking.value:
                self._server.scene.on_click()(self._picked)
                self._tools.distance.value = self.ruler.text
            else:
                self.ruler.clear()
                self._tools.distance.value = ""

    def _picked(self, event: SceneClickEvent) -> None:
        with self._lock:
            self.ruler.pick(event)
            self._tools.distance.value = self.ruler.text

    def _set_scale(self, _client: ClientHandle) -> None:
        distance, known = self.ruler.distance, float(self._tools.known.value)
        if not distance or not self._results:
            raise QvggtError("pick two points whose distance you know first")
        with self._lock:
            self.ruler.meters = self._scale = known / distance
            self.ruler.draw()
            self._tools.distance.value = self.ruler.text
            self.scene.set_grid(self.ruler.meters)
            self.controls.status.content = self._status()

    def _result(self) -> Result:
        if not self._results:
            raise QvggtError("the reconstruction is still running: wait until it is finished")
        return self._results[0] if self._scale is None else in_meters(self._results[0], self._scale)

    def _screenshot(self, client: ClientHandle) -> None:
        client.send_file_download("screenshot.png", screenshot(client), save_immediately=True)

    def _turntable(self, client: ClientHandle) -> None:
        kind = moving_kind(f"turntable.{self._tools.kind.value}")
        count = round(self._tools.seconds.value * FRAMES_PER_SECOND[kind])
        pictures = turntable(client, np.asarray(client.camera.look_at), count)
        client.send_file_download(f"turntable.{kind}", moving_picture(pictures, kind), save_immediately=True)

    def _download(self, client: ClientHandle) -> None:
        name = self._tools.file.value
        content = file_bytes(self._result(), name, self._options.max_points)
        client.send_file_download(name, content, save_immediately=True)

    def _save(self, client: ClientHandle) -> None:
        folder = save_as(self._result(), self._tools.folder.value)
        client.add_notification("Saved", str(folder), auto_close_seconds=8)

    def _do(self, client: ClientHandle | None, work: Callable[[ClientHandle], None]) -> None:
        """Do what a button asks for; an error is a message in the browser."""
        if client is None:
            return
        try:
            with _waiting(client):
                work(client)
        except (QvggtError, OSError, RuntimeError) as error:  # of the system: a browser that is too slow, a full disk
            client.add_notification("Not done", str(error), color="red", auto_close_seconds=12)


@contextmanager
def _waiting(client: ClientHandle) -> Iterator[None]:
    note = client.add_notification("One moment", "", loading=True, with_close_button=False)
    try:
        yield
    finally:
        note.remove()


def _scene_px(camera: CameraHandle) -> float:
    """Return the radius in pixels of a scene's disc on a screen; infinite from inside."""
    extent, distance = _EXTENT * RADIUS, float(np.linalg.norm(camera.position))
    if distance <= extent:
        return np.inf
    return extent / distance / np.tan(camera.fov / 2) * camera.image_height / 2


def _fly(client: ClientHandle, place: np.ndarray, rotation: np.ndarray, steps: int = 20) -> None:
    """Move a browser's camera smoothly to another one."""
    from viser.transforms import SO3

    start, end = SO3(np.array(client.camera.wxyz)), SO3.from_matrix(rotation)
    begin = np.array(client.camera.position)
    turn = (start.inverse() @ end).log()
    for step in range(1, steps + 1):
        share = step / steps
        share = share * share * (3 - 2 * share)
        with client.atomic():
            client.camera.wxyz = (start @ SO3.exp(share * turn)).wxyz
            client.camera.position = begin + share * (place - begin)
        client.flush()
        time.sleep(0.02)
