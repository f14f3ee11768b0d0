"""Refinement of cameras that cannot make them worse: features, rounds of adjustment, acceptance on held-out tracks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from qvggt.options import RefineOptions
from qvggt.postprocess.covisibility import covisibility
from qvggt.postprocess.frames import cameras_of
from qvggt.postprocess.refine.accept import MIN_HELD_OUT, Judge, accept_frames
from qvggt.postprocess.refine.certainty import Certainty, certainty, sure_focal, sure_frames
from qvggt.postprocess.refine.depth import depth_scales, processed_pixels
from qvggt.postprocess.refine.features import Features, find_features, match_pairs, pycolmap_module
from qvggt.postprocess.refine.report import Kept, Outcome, RefineReport, make_report
from qvggt.postprocess.refine.rig import RigFrames
from qvggt.postprocess.refine.rounds import Adjusted, Adjustment, adjust, shared_focal
from qvggt.postprocess.refine.tracks import Tracks, build_tracks, split_tracks
from qvggt.postprocess.refine.views import Views, views_of, with_views
from qvggt.postprocess.robust import align_cameras
from qvggt.postprocess.similarity import moved_cameras
from qvggt.types import OnProgress, Prediction

_ALL_PAIRS_UP_TO = 24
"""Frames up to which all pairs are matched."""

_PARTNERS, _NEIGHBORS = 12, 2
"""Beyond that: a frame is matched with so many covisible frames, and with so many that follow it."""

_SHARED_RATIO = 1.3
"""Frames of one size whose predicted focal lengths differ by less than this factor share one."""


_FEWEST = 3
"""Frames that determine focal lengths and poses together; two often leave several solutions."""

_DETERMINED_FOCAL = 0.01
"""Relative standard deviation of a focal length below which it counts as determined."""

_ROUNDS_WITH_DISTORTION = 2
_SURE_RADIAL = 4.0
"""Standard deviations by which a distortion must differ from none."""

_MOST_RADIAL = 0.5
"""Distortions above this are not those of a photograph."""

_TOO_FEW = (
    f"too few matches: at least {_FEWEST} photographs must match each other, or two with focal lengths or poses held; "
    "the cameras stay"
)


@dataclass(frozen=True)
class Refinement:
    """A refined prediction.

    Attributes:
        prediction: the input itself if nothing was accepted.
        report: what was measured, and what was kept.
    """

    prediction: Prediction
    report: RefineReport


@dataclass(frozen=True)
class Tied:
    """What frames have in common: lenses, as numbers [S] int64 that are equal for frames of one lens, and a rig."""

    lens: np.ndarray
    rig: RigFrames


@dataclass(frozen=True)
class Candidate:
    """One way to change the cameras.

    Attributes:
        kept: what it changes.
        views: in the world of the old cameras; frames that were not adjusted have their old ones.
        sure: [S] bool, which frames changed by more than their new cameras are uncertain.
    """

    kept: Kept
    views: Views
    sure: np.ndarray


def refine_prediction(
    prediction: Prediction,
    photographs: Iterable[Image.Image],
    options: RefineOptions = RefineOptions(),  # noqa: B008  frozen
    on_progress: OnProgress | None = None,
) -> Refinement:
    """Refine cameras by matches between the original photographs, and depth maps by one scale each.

    Cameras are adjusted to some of the tracks; the others judge. A camera changes only if the held-out tracks fit
    better by more than chance, and if it changed by more than the matches leave open. World frame and scale stay those
    of the input. Equal inputs give equal results.

    Args:
        prediction: with cameras.
        photographs: the original image of each frame, in order; each may be read when it is needed.
        options: what is held, and how much is searched.
        on_progress: the progress callback.

    Raises:
        QvggtError: pycolmap is not installed, the prediction has no cameras, or a photograph cannot be read.
    """
    pycolmap_module()
    cameras_of(prediction)
    report = on_progress or (lambda stage, share: None)
    features = list(_features(prediction, photographs, options, report))
    sizes = [each.size for each in features]
    pairs = frame_pairs(prediction)
    matches = []
    for index, found in enumerate(match_pairs(features, pairs, options.seed)):
        report("matching", 0.4 + 0.3 * index / len(pairs))
        matches.append(found)
    split = split_tracks(build_tracks(features, matches), options.holdout_percent, options.seed)
    old = views_of(prediction, sizes)
    report("adjusting", 0.7)
    rig = RigFrames.of(prediction, old.cam_from_world, options.rig_moments)
    outcome = _refined(old, split, Tied(lens_groups(prediction, old, rig), rig), options)
    scales = np.ones(len(old))
    known = outcome.frames & (options.hold_poses or outcome.kept != "focal") | (options.hold_focal & options.hold_poses)
    if prediction.depth is not None and known.any():
        scales = np.where(known, depth_scales(prediction, outcome.views, sizes, split), 1.0)
    report("done", 1.0)
    changed = outcome.frames.any() or (scales != 1.0).any()
    refined = with_views(prediction, outcome.views, sizes, scales) if changed else prediction
    return Refinement(refined, make_report(prediction, sizes, old, split, outcome=outcome, scales=scales))


def _features(
    prediction: Prediction, photographs: Iterable[Image.Image], options: RefineOptions, report: OnProgress
) -> Iterator[Features]:
    """Yield the features of each frame, without those on masked pixels."""
    count = len(prediction.names)
    for frame, found in enumerate(find_features(photographs, options)):
        report("finding features", 0.4 * frame / count)
        if prediction.mask is not None:
            column, row, inside = processed_pixels(prediction, frame, found.size, found.xy)
            kept = inside & prediction.mask[frame, row, column]
            found = replace(found, xy=found.xy[kept], descriptors=found.descriptors[kept])
        yield found


def frame_pairs(prediction: Prediction) -> list[tuple[int, int]]:
    """Return the pairs of frames to match: all, or with many frames those that see most of each other.

    Without depth and points, many frames count as a sequence, and those that are close in it are matched.
    """
    count = len(prediction.names)
    if count <= _ALL_PAIRS_UP_TO:
        return list(itertools.combinations(range(count), 2))
    pairs = {(i, j) for i in range(count) for j in range(i + 1, min(i + 1 + _NEIGHBORS, count))}
    if prediction.depth is None and prediction.world_points is None:
        return [(i, j) for i in range(count) for j in range(i + 1, min(i + 1 + _PARTNERS, count))]
    shared = covisibility(prediction, max_pixels=256)
    np.fill_diagonal(shared, 0)
    for frame, row in enumerate(shared + shared.T):
        best = np.argsort(-row, kind="stable")[:_PARTNERS]
        pairs |= {(min(frame, int(other)), max(frame, int(other))) for other in best if row[other] > 0}
    return sorted(pairs)


def lens_groups(prediction: Prediction, views: Views, rig: RigFrames) -> np.ndarray:
    """Return [S] int64: frames of one number share a focal length.

    Photographs of one size and of similar focal lengths do, and of a rig those of one camera.
    """
    sizes = [(*frame.original_size, sensor) for frame, sensor in zip(prediction.maps, rig.sensor, strict=True)]
    focal = views.focal.mean(1)
    groups = np.arange(len(views))
    for size in dict.fromkeys(sizes):
        members = np.array([each == size for each in sizes])
        if focal[members].max() <= _SHARED_RATIO * focal[members].min():
            groups[members] = np.flatnonzero(members)[0]
    return groups


def _refined(old: Views, split: tuple[Tracks, Tracks], tied: Tied, options: RefineOptions) -> Outcome:
    """Return the cameras that held-out tracks accept."""
    if options.hold_focal and options.hold_poses:
        return Outcome.unchanged(old, "focal lengths and poses are held: only depth maps can be scaled")
    both = _adjusted(old, split, tied, options)
    least = 2 if options.hold_focal or options.hold_poses else _FEWEST
    if both.used.sum() < least or split[1].count < MIN_HELD_OUT:
        return Outcome.unchanged(old, _TOO_FEW)
    candidates = _candidates(old, both, tied, options)
    judge = Judge.of(split[1], [old, *(each.views for each in candidates)])
    note = "held-out matches do not fit the adjusted cameras better: the cameras stay"
    for candidate in sorted(candidates, key=lambda each: judge.losses(each.views).sum()):
        if not judge.prefers(candidate.views, old):
            break
        views, accepted = accept_frames(judge, old, candidate.views, candidate.sure, moment=tied.rig.moment)
        if accepted.any():
            return Outcome(views, candidate.kept, accepted, both.views)
        note = "the matches do not determine the cameras well enough: the cameras stay"
    return Outcome.unchanged(old, note)


def _adjusted(old: Views, split: tuple[Tracks, Tracks], tied: Tied, options: RefineOptions) -> Adjustment:
    """Return adjusted cameras: with distortion, if it is sure and held-out tracks fit it better on average.

    That they fit better by more than chance explains is not asked: in a short walk the noise of a few held-out tracks
    can hide what one number gains over all of them.
    """
    what = Adjusted(tied.lens, tied.rig, focal=not options.hold_focal, poses=not options.hold_poses)
    straight = adjust(old, split[0], what, options.rounds)
    focal = straight.views.focal
    if not straight.used.any() or not np.allclose(focal, shared_focal(focal, tied.lens), rtol=1e-3):
        return straight  # cameras with held focal lengths that differ cannot share a distortion
    bent = adjust(straight.views, split[0], replace(what, radial=True), _ROUNDS_WITH_DISTORTION)
    if np.abs(bent.views.radial).max() > _MOST_RADIAL or (bent.used != straight.used).any():
        return straight
    judge = Judge.of(split[1], [straight.views, bent.views])
    if judge.losses(bent.views).sum() >= judge.losses(straight.views).sum():
        return straight
    certain = _certainty(bent, tied, options)
    sure = np.abs(bent.views.radial[certain.frames]) > _SURE_RADIAL * certain.radial_deviations()
    return bent if sure.any() else straight


def _certainty(found: Adjustment, tied: Tied, options: RefineOptions) -> Certainty:
    return certainty(
        found.views, found.tracks, tied.lens, tied.rig,
        known_focal=options.hold_focal, known_poses=options.hold_poses,
    )  # fmt: skip


def _candidates(old: Views, both: Adjustment, tied: Tied, options: RefineOptions) -> list[Candidate]:
    """Return the ways to change what is not held: all of it, poses alone, focal lengths alone.

    Poses that are adjusted with wrong focal lengths fit better and are worse. So they alone may change only if focal
    lengths are held, or if the joint adjustment determines them and finds those of the input.
    """
    certain = _certainty(both, tied, options)
    changed = sure_focal(both.views, old, certain)
    views, sure = _in_the_old_world(old, both, certain, tied.rig)
    if options.hold_poses or (changed and not options.hold_focal):
        focal = Candidate("focal", old.merged(replace(old, focal=views.focal), both.used), both.used & changed)
        return [focal] if options.hold_poses else [Candidate("all", views, sure), focal]
    determined = options.hold_focal or certain.focal_deviations().max() < _DETERMINED_FOCAL
    return [Candidate("poses", replace(views, focal=old.focal), sure & determined)]


def _in_the_old_world(old: Views, found: Adjustment, certain: Certainty, rig: RigFrames) -> tuple[Views, np.ndarray]:
    """Return adjusted cameras as pinholes in the world of the old ones, and which are certain [S].

    Frames of a rig without matches move with the others of their moment.
    """
    used, poses = found.used, rig.followed(found.views.cam_from_world, found.used)
    aligned = align_cameras(poses[used], old.cam_from_world[used], 1.0 if rig.sets_scale else None)
    if aligned is None:
        return old, np.zeros(len(old), bool)
    moved = replace(found.views.pinholes(), cam_from_world=moved_cameras(poses, aligned))
    placed = old.merged(replace(old, cam_from_world=moved.cam_from_world), rig.moving_with(used)).merged(moved, used)
    return placed, rig.wholly(sure_frames(found.views, old, certain), used)
