"""Contact sheet: each image with its depth and confidence, and the scene with its cameras from two viewpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from qvggt.export.depth_images import NO_DEPTH_COLOR, DepthRange, depth_color_map, depth_frames
from qvggt.export.points import PointCloud
from qvggt.export.scene_views import draw_views, ink_on
from qvggt.export.sheet import FAINT, FONT, Sheet
from qvggt.options import Unit
from qvggt.postprocess.frames import frame_colors, frame_photo_mask, to_uint8
from qvggt.postprocess.overview_layout import DPI, GAP, MARGIN, MAX_SHOWN, NAME, TITLE, VIEW_WIDTH, Grid, shown_frames
from qvggt.types import PathLike, Prediction


@dataclass(frozen=True)
class _Tile:
    """One kind of picture (image, depth, confidence) of all shown frames, [N, H, W, 3] uint8, with its color bar."""

    title: str
    pictures: np.ndarray
    bar: np.ndarray | None = None
    ticks: tuple[str, str, str] = ("", "", "")


def write_overview(
    path: PathLike,
    prediction: Prediction,
    cloud: PointCloud | None,
    title: str = "",
    caption: str = "",
    unit: Unit = "model",
    badges: Sequence[str] = (),
) -> None:
    """Write the contact sheet as PNG.

    Depth and confidence have one color scale each for all frames. The scene is seen in perspective, from behind and
    above the cameras, and from above. The view from above has the first camera's view direction up the page, turned by
    at most 45 degrees to align walls with the page; cameras have the same colors as in ``scene.glb``. Outputs that the
    prediction lacks are left out.

    Args:
        path: of the PNG.
        prediction: with images and any outputs.
        cloud: for both views of the scene, which are left out if there are neither points nor cameras.
        title: heading, usually the model's name.
        caption: line below the title.
        unit: unit of lengths, for the scale bar.
        badges: warnings of a few words, drawn beside the caption.

    Raises:
        QvggtError: if the file cannot be written.
    """
    shown = shown_frames(len(prediction.images))
    tiles = _tiles(prediction, shown)
    has_view = cloud is not None or prediction.cam_from_world is not None
    grid = Grid.fitting(len(shown), len(tiles), prediction.images.shape[-2:])
    content = grid.content(has_view)
    sheet = Sheet(*grid.page(has_view))
    _draw_title(sheet, prediction, cloud, title, caption=caption)
    _draw_tiles(sheet, prediction, shown, tiles, grid=replace(grid, top=TITLE + (content - grid.size[1]) / 2))
    if has_view:
        place = (2 * MARGIN + grid.size[0], TITLE, content * VIEW_WIDTH, content)
        draw_views(sheet, prediction, cloud, shown, place=place, unit=unit)
    if badges:
        text = sheet.printable("  ·  ".join(badges), int((sheet.width - 2 * MARGIN) * 6))
        sheet.badge(sheet.width - MARGIN, 0.61, text)
    sheet.save(path)


def _tiles(prediction: Prediction, shown: np.ndarray) -> list[_Tile]:
    photo = np.stack([frame_photo_mask(prediction, frame) for frame in shown])
    pictures = to_uint8(prediction.images[shown].transpose(0, 2, 3, 1))
    pictures[~photo] = NO_DEPTH_COLOR  # white padding would dominate the page
    tiles = [_Tile("image", pictures)]
    ramp = np.linspace(0, 1, 256)
    if prediction.depth is not None:
        scale = DepthRange.robust_of(lambda: (depth[valid] for depth, valid in depth_frames(prediction)))
        middle = float(np.sqrt(scale.near * scale.far))
        ticks = (f"{scale.near:.3g}", f"{middle:.3g}", f"{scale.far:.3g}")
        pictures = np.stack([scale.colors(depth, valid) for depth, valid in depth_frames(prediction, shown.tolist())])
        tiles.append(_Tile("depth", pictures, depth_color_map(ramp), ticks))
    confidence = prediction.depth_conf if prediction.depth_conf is not None else prediction.world_points_conf
    if confidence is not None:
        tiles.append(_confidence_tile(prediction, confidence, shown, ramp))
    return tiles


def _confidence_tile(prediction: Prediction, confidence: np.ndarray, shown: np.ndarray, ramp: np.ndarray) -> _Tile:
    def values_of(frame: int) -> tuple[np.ndarray, np.ndarray]:
        values = confidence[frame]
        return values, np.isfinite(values) & (values > 0) & frame_photo_mask(prediction, frame)

    frames = range(len(confidence))
    # The logarithmic range of depth suits confidences.
    scale = DepthRange.robust_of(lambda: (values[valid] for values, valid in map(values_of, frames)))
    values, valid = (np.stack(each) for each in zip(*map(values_of, shown.tolist()), strict=True))
    position = np.log(np.where(valid, values, 1.0) / scale.near) / np.log(scale.far / scale.near)
    colors = colormaps["cividis"]
    pictures = colors(np.clip(position, 0, 1), bytes=True)[..., :3]
    pictures[~valid] = NO_DEPTH_COLOR
    ticks = (f"{scale.near:.3g}", f"{np.sqrt(scale.near * scale.far):.3g}", f"{scale.far:.3g}")
    return _Tile("confidence", pictures, colors(ramp, bytes=True)[..., :3], ticks)


def _draw_title(sheet: Sheet, prediction: Prediction, cloud: PointCloud | None, title: str, caption: str) -> None:
    count = len(prediction.images)
    height, width = prediction.images.shape[-2:]
    facts = [f"{count} image{'s' * (count != 1)} of {width} × {height}"]
    facts += [f"{len(cloud):,} points"] if cloud is not None else []
    facts += [f"{MAX_SHOWN} of {count} images shown"] if count > MAX_SHOWN else []
    line = "  ·  ".join(facts)
    room = int((sheet.width - 2 * MARGIN) * 11)
    sheet.text(MARGIN, 0.22, sheet.printable(title or "Reconstruction", room // 2), fontsize=17, fontweight="bold")
    sheet.text(sheet.width - MARGIN, 0.28, line, fontsize=11, color=FAINT, ha="right")
    if caption:
        sheet.text(MARGIN, 0.58, sheet.printable(caption, room), fontsize=10.5, color=FAINT)


def _draw_tiles(sheet: Sheet, prediction: Prediction, shown: np.ndarray, tiles: list[_Tile], grid: Grid) -> None:
    width, height = grid.cell
    colors = frame_colors(len(prediction.images))
    for k, tile in enumerate(tiles):
        for i, frame in enumerate(shown):
            left, top = grid.place(i, k)
            axes = sheet.axes(left, top, width, height)
            enlarged = tile.pictures.shape[2] < width * DPI
            smooth = ("bicubic" if tile.bar is None else "nearest") if enlarged else "antialiased"
            axes.imshow(tile.pictures[i], aspect="auto", interpolation=smooth)
            if k == 0:
                _badge(axes, str(frame + 1), colors[frame])
                name = sheet.printable(prediction.names[frame], max(8, int(width * 13)))
                sheet.text(left, top + height + 0.035, name, fontsize=7, color=FAINT)
        left, top = grid.place(0, k)
        sheet.text(left, top - 0.2, tile.title, fontsize=9.5)
        if tile.bar is None:
            continue
        if grid.across:
            right = grid.place(len(shown) - 1, k)[0] + width + GAP
            sheet.color_bar((right, top, 0.13, height), tile.bar, tile.ticks)
        else:
            bottom = grid.place(len(shown) - 1, k)[1] + height + NAME
            sheet.color_bar((left, bottom, width, 0.13), tile.bar, tile.ticks)


def _badge(axes: Axes, text: str, color: np.ndarray) -> None:
    style = {"boxstyle": "round,pad=0.28", "facecolor": (*color, 1.0), "edgecolor": "none"}
    axes.annotate(
        text, (0, 1), xycoords="axes fraction", xytext=(6, -6), textcoords="offset points", ha="left", va="top",
        fontsize=8, fontweight="bold", color=ink_on(color), bbox=style, family=FONT,
    )  # fmt: skip
