"""The panel beside the scene."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from qvggt.app.cloud import DROP_STEP, LEVELS
from qvggt.app.colors import ColorMode, heat_legend
from qvggt.app.saving import FILES, MOVING
from qvggt.app.scene import LAYOUTS, UPRIGHT, Look, Scene

if TYPE_CHECKING:
    import numpy as np
    from viser import ClientHandle, ViserServer

Action = Callable[["ClientHandle"], None]


class Controls:
    """Sliders and buttons; every change of a slider draws the scene anew.

    Attributes:
        look: what the sliders say.
    """

    def __init__(self, server: ViserServer, scene: Scene, look: Look, compared: bool) -> None:
        self._gui, self._scene, self._compared = server.gui, scene, compared
        self._lock = threading.Lock()
        self._start = look
        self.status = server.gui.add_markdown("")
        if compared:
            self._add_comparison()
        self._add_points()
        self._add_cameras()

    def _add_points(self) -> None:
        look = self._start
        modes = tuple(mode for mode in get_args(ColorMode) if mode != "difference" or self._compared)
        with self._gui.add_folder("Points"):
            self._color = self._gui.add_dropdown("Color", modes, initial_value=look.color)
            self._drop = self._gui.add_slider(
                "Hide least sure, %", 0, 100 - DROP_STEP, DROP_STEP, round(look.drop_percent / DROP_STEP) * DROP_STEP,
                hint="hides this percentage of the points, the least confident",
            )  # fmt: skip
            shares = [*(f"1/{2 ** (LEVELS - 1 - level)}" for level in range(LEVELS - 1)), "all"]
            marks = tuple(enumerate(shares))
            self._level = self._gui.add_slider("Number", 0, LEVELS - 1, 1, look.level, marks=marks)
            self._moving = self._gui.add_slider(
                "While moving, thousands", 20, 1000, 10, round(look.moving_points / 1000),
                hint="most points while the view moves, all when it rests; a slow browser gets as many at rest",
            )  # fmt: skip
            self._size = self._gui.add_slider("Size", 0.25, 4.0, 0.05, look.point_size)
        for widget in (self._color, self._drop, self._level, self._moving, self._size):
            widget.on_update(self._changed)

    def _add_cameras(self) -> None:
        look = self._start
        with self._gui.add_folder("View"):
            self._frustum = self._gui.add_slider("Cameras", 0.0, 3.0, 0.05, look.frustum_size, hint="0 hides them")
            self._upright = self._gui.add_dropdown("Level", UPRIGHT, initial_value=look.upright)
            self._grid = self._gui.add_checkbox("Grid", look.grid, hint="lines at the height of the floor")
        for widget in (self._frustum, self._upright, self._grid):
            widget.on_update(self._changed)

    def _add_comparison(self) -> None:
        look = self._start
        with self._gui.add_folder("Comparison"):
            self._layout = self._gui.add_dropdown("Show", LAYOUTS, initial_value=look.layout)
            percent = 100 * look.top
            self._top = self._gui.add_slider("Heat map to, %", percent / 10, percent * 4, percent / 10, percent)
            self._legend = self._gui.add_image(
                heat_legend(look.top), label="distance of points, percent of depth", format="png"
            )
        for widget in (self._layout, self._top):
            widget.on_update(self._changed)

    @property
    def look(self) -> Look:
        """What the widgets say."""
        extra: dict[str, Any] = {"layout": self._layout.value, "top": self._top.value / 100} if self._compared else {}
        return Look(
            color=self._color.value,
            drop_percent=self._drop.value,
            level=self._level.value,
            moving_points=1000 * self._moving.value,
            point_size=self._size.value,
            frustum_size=self._frustum.value,
            upright=self._upright.value,
            grid=self._grid.value,
            **extra,
        )

    @property
    def drop_percent(self) -> float:
        """Percentage of points that are hidden."""
        return self._drop.value

    @drop_percent.setter
    def drop_percent(self, percent: float) -> None:
        self._drop.value = min(round(percent / DROP_STEP) * DROP_STEP, 100 - DROP_STEP)

    def _changed(self, _event: object) -> None:
        with self._lock:
            look = self.look
            if self._compared and look.top != self._scene.look.top:
                self._legend.image = heat_legend(look.top)
            self._scene.apply(look)


class Tools:
    """Measuring and saving: widgets whose work the viewer does."""

    def __init__(self, server: ViserServer, folder: str) -> None:
        gui = server.gui
        with gui.add_folder("Photograph", expand_by_default=False) as self.photo_folder:
            self.photo_name = gui.add_markdown("Click a camera to fly to it.")
            self._photo = None
        with gui.add_folder("Measure", expand_by_default=False):
            self.picking = gui.add_checkbox("Pick points", False, hint="click two points of the scene")
            self.distance = gui.add_text("Distance", "", disabled=True)
            self.known = gui.add_number("It is, in meters", 1.0, min=0.0001, step=0.0001)
            self.scale = gui.add_button("Use as scale", hint="lengths and saved files are in meters from then on")
        with gui.add_folder("Save", expand_by_default=False):
            self.screenshot = gui.add_button("Screenshot")
            self.kind = gui.add_dropdown("Turntable as", MOVING)
            self.seconds = gui.add_number("Seconds", 6.0, min=1.0, max=60.0, step=0.5)
            self.turntable = gui.add_button("Turntable")
            self.file = gui.add_dropdown("File", FILES)
            self.download = gui.add_button("Download file")
            self.folder = gui.add_text("Folder", folder)
            self.save = gui.add_button("Save result", hint="writes all files into a new folder where qvggt runs")
        self._gui = gui

    def show_photo(self, picture: np.ndarray, text: str) -> None:
        """Show a photograph and its depth."""
        self.photo_name.content = text
        if self._photo is None:
            with self.photo_folder:
                self._photo = self._gui.add_image(picture)
        else:
            self._photo.image = picture
