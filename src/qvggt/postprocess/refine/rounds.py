"""Rounds of triangulation from the current cameras, filtering and bundle adjustment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qvggt.postprocess.refine.features import quiet_pycolmap
from qvggt.postprocess.refine.rig import RigFrames, composed, inverted
from qvggt.postprocess.refine.tracks import Tracks, connected_frames
from qvggt.postprocess.refine.views import Views, triangulate, widest_angles

MIN_OBSERVATIONS = 30
"""Observations below which a frame is left out of an adjustment."""

_MIN_ANGLE_DEG = 1.0
_LEAST_PX = 0.5
"""Least scale of the robust loss and of the filter: wrong matches that nearly fit mislead, so it is below a pixel."""

_FACTORS = (6.0, 4.0, 3.0)
"""Observations with an error above this multiple of the median are left out, by round; the last one from there on."""

_STEPS = 50


@dataclass(frozen=True)
class Adjusted:
    """What is adjusted.

    Attributes:
        lens: [S] int64, frames of one number share a focal length and a distortion.
        rig: which frames move together; those have different lenses.
        focal: whether focal lengths are adjusted.
        poses: whether poses are adjusted.
        radial: whether the distortion is adjusted.
    """

    lens: np.ndarray
    rig: RigFrames
    focal: bool = True
    poses: bool = True
    radial: bool = False


@dataclass(frozen=True)
class Adjustment:
    """Cameras after all rounds.

    Attributes:
        views: in a world of their own if poses were adjusted: only the first adjusted camera is where it was.
        used: [S] bool, the frames that the last round adjusted.
        tracks: that the last round adjusted them to.
    """

    views: Views
    used: np.ndarray
    tracks: Tracks


def adjust(views: Views, tracks: Tracks, what: Adjusted, rounds: int) -> Adjustment:
    """Return cameras adjusted to tracks."""
    if what.focal or what.radial:
        views = replace(views, focal=shared_focal(views.focal, what.lens))
    used, part = np.zeros(len(views), bool), tracks
    for number in range(rounds):
        factor = _FACTORS[min(number, len(_FACTORS) - 1)]
        points, errors = triangulate(views, tracks)
        finite = np.isfinite(errors)
        scale = max(_LEAST_PX, float(np.median(errors[finite]))) if finite.any() else _LEAST_PX
        wide = widest_angles(views, tracks, points) >= _MIN_ANGLE_DEG
        fits = finite & (errors <= factor * scale) & wide[tracks.track]
        part = tracks.kept(fits)
        used = connected_frames(part, len(views), MIN_OBSERVATIONS)
        if not used.any():
            return Adjustment(views, used, part)
        part = part.kept(used[part.frame])
        points, _ = triangulate(views, part)
        views = _bundle_adjusted(views, part, points, what, used=used, loss_px=scale)
    return Adjustment(views, used, part)


def shared_focal(focal: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """Return focal lengths [S, 2] with the median of each group for both axes of its frames."""
    shared = focal.copy()
    for group in np.unique(lens):
        shared[lens == group] = np.median(focal[lens == group])
    return shared


def _bundle_adjusted(
    views: Views, tracks: Tracks, points: np.ndarray, what: Adjusted, used: np.ndarray, loss_px: float
) -> Views:
    with quiet_pycolmap() as pycolmap:
        scene = _reconstruction(pycolmap, views, tracks, points, what=what, used=used)
        config = pycolmap.BundleAdjustmentConfig()
        for frame in np.flatnonzero(used):
            config.add_image(int(frame) + 1)
        moments = [int(frames[0]) + 1 for frames in _moments(what.rig, used)]
        if not what.poses or what.rig.together:  # the rig fixes the scale
            for number in moments[: None if not what.poses else 1]:
                config.set_constant_rig_from_world_pose(number)
        else:
            config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
        pycolmap.create_default_bundle_adjuster(_settings(pycolmap, what, loss_px), config, scene).solve()
        poses, focal, radial = views.cam_from_world.copy(), views.focal.copy(), views.radial.copy()
        for frame in np.flatnonzero(used):
            image = scene.image(int(frame) + 1)
            poses[frame] = image.cam_from_world().matrix()
            if what.focal or what.radial:
                focal[frame], radial[frame] = image.camera.params[0], image.camera.params[3]
    return replace(views, cam_from_world=poses, focal=focal, radial=radial)


def _settings(pycolmap: Any, what: Adjusted, loss_px: float) -> Any:
    settings = pycolmap.BundleAdjustmentOptions()
    settings.refine_focal_length, settings.refine_extra_params = what.focal, what.radial
    settings.refine_principal_point = settings.refine_sensor_from_rig = False
    settings.refine_rig_from_world = what.poses
    settings.print_summary = False
    settings.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    settings.ceres.loss_function_scale = loss_px
    settings.ceres.solver_options.max_num_iterations = _STEPS
    settings.ceres.solver_options.num_threads = 1  # sums in one order: equal runs give equal bytes
    return settings


def _reconstruction(
    pycolmap: Any, views: Views, tracks: Tracks, points: np.ndarray, what: Adjusted, used: np.ndarray
) -> Any:
    """Return a COLMAP reconstruction of the used frames; image and camera ids are frame numbers plus one.

    Frames of one lens share a camera, unless neither focal lengths nor distortion are adjusted. Each moment of a rig is
    a frame of COLMAP's, whose id is that of its first image, with a rig of its own.
    """
    scene = pycolmap.Reconstruction()
    adjusted = what.focal or what.radial
    cameras = (what.lens if adjusted else np.arange(len(views))) + 1
    place = np.empty(len(tracks.frame), np.int64)
    for frames in _moments(what.rig, used):
        images = []
        for frame in frames:
            number = int(cameras[frame])
            if not scene.exists_camera(number):
                scene.add_camera_with_trivial_rig(_camera(pycolmap, number, views, int(frame), shared=adjusted))
            mine = np.flatnonzero(tracks.frame == frame)
            place[mine] = np.arange(len(mine))
            images.append(
                pycolmap.Image(name=str(frame), keypoints=tracks.xy[mine], camera_id=number, image_id=int(frame) + 1)
            )
        if len(frames) == 1:
            scene.add_image_with_trivial_frame(images[0], pycolmap.Rigid3d(views.cam_from_world[frames[0]]))
        else:
            _add_moment(pycolmap, scene, views, frames, images=images)
    starts = np.searchsorted(tracks.track, np.arange(tracks.count + 1))
    for number in range(tracks.count):
        elements = [
            pycolmap.TrackElement(int(tracks.frame[at]) + 1, int(place[at]))
            for at in range(starts[number], starts[number + 1])
        ]
        scene.add_point3D(points[number], pycolmap.Track(elements))
    return scene


def _moments(rig: RigFrames, used: np.ndarray) -> list[np.ndarray]:
    """Return the used frames of each moment."""
    return [np.flatnonzero(used & (rig.moment == moment)) for moment in np.unique(rig.moment[used])]


def _add_moment(pycolmap: Any, scene: Any, views: Views, frames: np.ndarray, images: list[Any]) -> None:
    """Add images that a rig took at one moment; the first one's camera is its reference."""
    sensors = [pycolmap.sensor_t(pycolmap.SensorType.CAMERA, image.camera_id) for image in images]
    poses, number = views.cam_from_world[frames], int(frames[0]) + 1
    rig = pycolmap.Rig()
    rig.rig_id = len(views) + number  # below are those of single cameras
    rig.add_ref_sensor(sensors[0])
    for sensor, pose in zip(sensors[1:], poses[1:], strict=True):
        rig.add_sensor(sensor, pycolmap.Rigid3d(composed(pose, inverted(poses[0]))))
    scene.add_rig(rig)
    frame = pycolmap.Frame()
    frame.frame_id, frame.rig_id, frame.rig_from_world = number, rig.rig_id, pycolmap.Rigid3d(poses[0])
    for sensor, image in zip(sensors, images, strict=True):
        frame.add_data_id(pycolmap.data_t(sensor, image.image_id))
    scene.add_frame(frame)
    for image in images:
        image.frame_id = number
        scene.add_image(image)


def _camera(pycolmap: Any, number: int, views: Views, frame: int, shared: bool) -> Any:
    center, focal = views.center[frame], views.focal[frame]
    width, height = (int(side) for side in np.ceil(2 * center))
    if shared:
        name, parameters = "SIMPLE_RADIAL", [focal[0], *center, views.radial[frame]]
    else:
        name, parameters = "PINHOLE", [*focal, *center]
    return pycolmap.Camera(model=name, width=width, height=height, params=parameters, camera_id=number)
