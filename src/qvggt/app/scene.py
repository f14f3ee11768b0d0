"""The 3D scene in the browser: points in parts that can be hidden, frustums, axes and a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from PIL import Image

from qvggt.app.cloud import DROP_STEP, LEVELS, DisplayCloud, affordable_level
from qvggt.app.colors import ColorMode, point_colors
from qvggt.app.picking import looking
from qvggt.geometry import Similarity, matrix_to_quaternion
from qvggt.postprocess.frames import camera_centers, cameras_of, frame_colors, level_rotation, to_uint8
from qvggt.postprocess.ground import Z_UP_FROM_GLTF, Ground
from qvggt.types import Prediction

if TYPE_CHECKING:
    from viser import CameraFrustumHandle, ClientHandle, PointCloudHandle, ViserServer

Upright = Literal["floor", "cameras", "first camera"]
"""What is level: the floor that was found, the horizon of the cameras, or the first camera."""

Layout = Literal["A", "B", "both", "side by side"]

UPRIGHT: tuple[Upright, ...] = get_args(Upright)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
RADIUS = 3.0
"""Median distance of the points from the center of the scene in the browser's unit."""

FEWEST_MOVING = 60_000
"""About the most points that are drawn while the view of a slow browser moves."""

_PHOTO_PX = 256
_SECOND_COLOR = (60, 60, 66)
"""Of the frustums of a second result; those of the first have the colors of their frames."""


@dataclass(frozen=True)
class Look:
    """What is drawn, and how.

    Attributes:
        color: what the colors of points show.
        top: the difference at the last color of the heat map, relative to depth.
        drop_percent: percentage of points, the least confident, that are hidden.
        level: finest level of detail that is shown.
        moving_points: about the most points that are drawn while a browser's view moves; in a slow browser, at rest.
        point_size: size of a point relative to the mean spacing of pixels.
        frustum_size: size of the cameras, 0 to hide them.
        upright: what is level.
        grid: whether a grid is drawn at z = 0.
        layout: which of two results are shown.
    """

    color: ColorMode = "photograph"
    top: float = 0.1
    drop_percent: float = 25.0
    level: int = LEVELS - 1
    moving_points: int = 250_000
    point_size: float = 1.0
    frustum_size: float = 1.0
    upright: Upright = "floor"
    grid: bool = True
    layout: Layout = "both"


@dataclass(frozen=True)
class Layer:
    """One result to draw.

    Attributes:
        prediction: in the world of the scene.
        cloud: its points.
        heat: [S, H, W] differences from another result, or None.
    """

    prediction: Prediction
    cloud: DisplayCloud
    heat: np.ndarray | None = None


OnFrustum = Callable[[int, int, "ClientHandle"], None]
"""Called with the layer and the frame whose frustum was clicked, and the browser in which it was."""


class Scene:
    """The layers of a scene on a server; ``apply`` draws them as a ``Look`` says.

    Attributes:
        layers: what is drawn.
        look: how it is drawn.
        unit: length in the browser of one unit of the predictions.
        detail: level of detail that the browsers' distances from the scene call for.
        moving: whether a browser's view moves.
        slow: whether that browser draws slowly.
        on_move: called when points are drawn in another place.
    """

    def __init__(self, server: ViserServer, on_frustum: OnFrustum) -> None:
        self.server = server
        self.on_frustum = on_frustum
        self.layers: tuple[Layer, ...] = ()
        self.look = Look()
        self.unit = 1.0
        self.detail = LEVELS - 1
        self.moving = self.slow = False
        self.on_move: Callable[[], None] = lambda: None
        self._ground: Ground | None = None
        self._drawn: list[_DrawnLayer] = []
        self._frame = server.scene.add_frame("/scene", show_axes=False)
        self._grid = server.scene.add_grid(
            "/grid", infinite_grid=True, fade_distance=40.0, cell_thickness=0.6, section_thickness=0.8,
            cell_color=(228, 228, 232), section_color=(205, 205, 212),
        )  # fmt: skip

    def show(self, layers: Sequence[Layer], ground: Ground) -> None:
        """Draw other layers in place of those that are drawn, in the unit of the first."""
        with self.server.atomic():
            for each in self._drawn:
                each.remove()
            points = layers[0].cloud.points
            spread = float(np.median(np.linalg.norm(points - np.median(points, axis=0), axis=1)))
            self.unit = RADIUS / max(spread, 1e-9)
            self.layers, self._ground, self._drawn = (), ground, []
            for layer in layers:
                self.add(layer)
        self.apply(self.look)

    def add(self, layer: Layer) -> None:
        """Draw one more layer."""
        index = len(self.layers)
        self.layers = (*self.layers, layer)
        drawn = _DrawnLayer(self.server, index, layer, self.unit)
        drawn.listen(lambda frame, client: self.on_frustum(index, frame, client))
        self._drawn.append(drawn)
        drawn.apply(self.look, self._finest(), shown=True)

    def apply(self, look: Look) -> None:
        """Draw the layers in another way."""
        moved = (look.upright, look.layout) != (self.look.upright, self.look.layout)
        self.look = look
        with self.server.atomic():
            placed = self.placement()
            self._frame.wxyz, self._frame.position = _wxyz(placed.rotation), placed.translation * self.unit
            self._grid.visible = look.grid and look.upright == "floor"
            for index, drawn in enumerate(self._drawn):
                drawn.shift(self._shift(index))
                drawn.apply(look, self._finest(), self.shown(index))
        if moved:
            self.on_move()

    def set_grid(self, meters: float) -> None:
        """Draw the grid's lines a meter apart.

        Args:
            meters: meters per unit of the predictions.
        """
        self._grid.section_size = self.unit / meters
        self._grid.cell_size = self.unit / meters / 2

    def refine(self, detail: int, moving: bool, slow: bool = False) -> None:
        """Show the level of detail that the browsers' cameras call for, or that a moving view can have."""
        before = self._finest()
        self.detail, self.moving, self.slow = detail, moving, slow
        if before != self._finest():
            self.apply(self.look)

    def _finest(self) -> int:
        """Return the finest level of detail that is drawn now."""
        if not self.moving and not self.slow:
            return self.detail
        count = sum(len(layer.cloud) for index, layer in enumerate(self.layers) if self.shown(index))
        limit = self.look.moving_points
        if self.moving and self.slow:
            limit = min(limit, FEWEST_MOVING)
        return min(self.detail, affordable_level(count, limit))

    def shown(self, index: int) -> bool:
        """Return whether a layer is visible."""
        return (
            self.look.layout in ("both", "side by side")
            or "AB".find(self.look.layout) == index
            or len(self.layers) != 2
        )

    def placement(self) -> Similarity:
        """Return the rigid transform from the world of the predictions to the upright world, in their unit."""
        if self._ground is None or self.look.upright == "first camera":
            return Similarity(1.0, Z_UP_FROM_GLTF @ level_rotation(None), np.zeros(3))
        ground = self._ground.from_world
        if self.look.upright == "floor":
            return ground
        return Similarity(1.0, Z_UP_FROM_GLTF @ level_rotation(self.layers[0].prediction.cam_from_world), np.zeros(3))

    def facing(self) -> np.ndarray:
        """Return the rotation [3, 3], camera to browser, of a level view that looks as the cameras do in the mean."""
        cameras = self.layers[0].prediction.cam_from_world
        forward = np.zeros(3) if cameras is None else self.placement().rotation @ cameras[:, 2, :3].sum(0)
        forward = forward * np.array([1.0, 1.0, 0.0])
        return looking(forward if np.linalg.norm(forward) > 1e-6 else np.array([0.0, 1.0, 0.0]))

    def _shift(self, index: int) -> np.ndarray:
        """Return where in the world of the predictions a layer is drawn, beside the first one."""
        if index == 0 or self.look.layout != "side by side" or len(self.layers) != 2:
            return np.zeros(3)
        right = self.facing()[:, 0] @ self.placement().rotation
        low, high = np.percentile(self.layers[0].cloud.points @ right, (1, 99))
        return 1.15 * (high - low) * right

    def positions(self, index: int) -> np.ndarray:
        """Return the points [N, 3] of a layer where the browser draws them."""
        return self.unit * self.placement().apply(self.layers[index].cloud.points + self._shift(index))

    def visible_points(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where the browser draws the points [N, 3] that are visible, and the same in the predictions' world."""
        drawn, world = [], []
        for index, layer in enumerate(self.layers):
            if self.shown(index):
                kept = (layer.cloud.bin >= self.look.drop_percent // DROP_STEP) & (layer.cloud.level <= self.look.level)
                drawn.append(self.positions(index)[kept])
                world.append(layer.cloud.points[kept])
        return (np.concatenate(drawn), np.concatenate(world)) if drawn else (np.zeros((0, 3)), np.zeros((0, 3)))

    @property
    def point_size(self) -> float:
        """Diameter of a point in the browser's unit when all are drawn."""
        return self.look.point_size * self._drawn[0].spacing

    def camera(self, index: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the position [3] and the rotation [3, 3], camera to browser, of a frame of a layer."""
        cameras, _ = cameras_of(self.layers[index].prediction)
        center = camera_centers(cameras[frame : frame + 1])[0] + self._shift(index)
        placed = self.placement()
        return self.unit * placed.apply(center), placed.rotation @ cameras[frame, :, :3].T

    def hide_frustum(self, index: int, frame: int, hidden: bool) -> None:
        """Hide a camera, whose picture would cover the view from it, or show it again."""
        if index < len(self._drawn):
            self._drawn[index].hide(frame, hidden)


class _DrawnLayer:
    """The nodes of one layer: a point cloud for each bin of confidence and level of detail, and the frustums."""

    def __init__(self, server: ViserServer, index: int, layer: Layer, unit: float) -> None:
        self.layer, self.unit, self.index = layer, unit, index
        cloud = layer.cloud
        center = np.median(cloud.points, axis=0)  # 16-bit numbers are finest around 0
        self.center = center
        self.root = server.scene.add_frame(f"/scene/{index}", show_axes=False)
        server.scene.add_frame(f"/scene/{index}/points", show_axes=False, position=unit * center)
        self.parts = cloud.parts()
        self.spacing = unit * _spacing(layer)
        self.clouds: dict[tuple[int, int], PointCloudHandle] = {
            name: server.scene.add_point_cloud(
                f"/scene/{index}/points/{name[0]}_{name[1]}",
                unit * (cloud.points[part] - center),
                cloud.colors[part],
                point_size=self.spacing,
                point_shape="circle",
                point_shading="flat",
            )
            for name, part in self.parts.items()
        }
        self.painted: tuple[ColorMode, float] = ("photograph", 0.0)
        self.frustums = [] if layer.prediction.cam_from_world is None else _add_frustums(server, index, layer, unit)
        self.hidden: set[int] = set()

    def listen(self, on_frustum: Callable[[int, ClientHandle], None]) -> None:
        """Call a function with the frame and the browser when a frustum is clicked."""
        for frame, frustum in enumerate(self.frustums):
            frustum.on_click(lambda event, frame=frame: on_frustum(frame, event.client))

    def shift(self, by: np.ndarray) -> None:
        """Move the layer, in the unit of the prediction."""
        self.root.position = self.unit * by

    def apply(self, look: Look, detail: int, shown: bool) -> None:
        """Draw the layer as a look says; only what differs is sent."""
        self.root.visible = shown
        paint: tuple[ColorMode, float] = (look.color, look.top if look.color == "difference" else 0.0)
        if look.color == "difference" and self.index == 0 and look.layout not in ("A", "B"):
            paint = ("photograph", 0.0)  # beside the heat map of the second result, the first shows what it is of
        if paint != self.painted and shown:
            colors = point_colors(self.layer.cloud, paint[0], self.layer.heat, look.top)
            for name, cloud in self.clouds.items():
                cloud.colors = colors[self.parts[name]]
            self.painted = paint
        level = min(look.level, detail)
        size = look.point_size * self.spacing * 2.0 ** ((LEVELS - 1 - level) / 2)  # fewer points are as much larger
        for (bin_, part_level), cloud in self.clouds.items():
            _set(cloud, "visible", bin_ >= look.drop_percent // DROP_STEP and part_level <= level)
            _set(cloud, "point_size", size)
        for frame, frustum in enumerate(self.frustums):
            _set(frustum, "visible", look.frustum_size > 0 and frame not in self.hidden)
            _set(frustum, "scale", max(look.frustum_size, 1e-3) * 0.08 * RADIUS)

    def hide(self, frame: int, hidden: bool) -> None:
        """Hide one frustum, or show it again."""
        (self.hidden.add if hidden else self.hidden.discard)(frame)
        self.frustums[frame].visible = not hidden

    def remove(self) -> None:
        """Remove all nodes of the layer."""
        self.root.remove()


def _set(handle: object, name: str, value: object) -> None:
    if getattr(handle, name) != value:
        setattr(handle, name, value)


def _add_frustums(server: ViserServer, index: int, layer: Layer, unit: float) -> list[CameraFrustumHandle]:
    cameras, intrinsics = cameras_of(layer.prediction)
    images = layer.prediction.images
    height, width = images.shape[-2:]
    centers = camera_centers(cameras)
    colors = np.rint(255 * frame_colors(len(cameras))).astype(np.uint8) if index == 0 or layer.heat is None else None
    return [
        server.scene.add_camera_frustum(
            f"/scene/{index}/cameras/{frame}",
            2 * float(np.arctan(height / 2 / intrinsics[frame, 1, 1])),
            width / height,
            scale=0.08 * RADIUS,
            thickness=2.0,
            thickness_units="screen",
            color=_SECOND_COLOR if colors is None else colors[frame],
            image=_thumbnail(images[frame]),
            format="jpeg",
            wxyz=_wxyz(cameras[frame, :, :3].T),
            position=unit * centers[frame],
            cast_shadow=False,
            receive_shadow=False,
        )
        for frame in range(len(cameras))
    ]


def _thumbnail(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(to_uint8(image.transpose(1, 2, 0)))
    picture.thumbnail((_PHOTO_PX, _PHOTO_PX))
    return np.asarray(picture)


def _spacing(layer: Layer) -> float:
    """Return the distance between the points of neighboring pixels of the median depth, as thin as the cloud is."""
    prediction, cloud = layer.prediction, layer.cloud
    pixels = prediction.images[:, 0].size
    if prediction.intrinsics is None:
        return float(np.ptp(cloud.points, axis=0).max()) / 400
    focal = float(np.median(prediction.intrinsics[:, 0, 0]))
    return float(np.median(cloud.depth)) / focal * np.sqrt(pixels / len(cloud))


def _wxyz(rotation: np.ndarray) -> np.ndarray:
    return matrix_to_quaternion(torch.from_numpy(np.ascontiguousarray(rotation))).numpy()[[3, 0, 1, 2]]
