"""What went wrong in a reconstruction, in words, from quantities measured on the prediction alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.sparse.csgraph import connected_components

from qvggt.postprocess.agreement import Agreement, Reliable, measure_agreement, reliable_pixels
from qvggt.postprocess.covisibility import Surfaces
from qvggt.postprocess.frames import camera_centers
from qvggt.types import OnProgress, Prediction

FindingKind = Literal["blur", "overlap", "misfit", "scene", "parallax", "unsure"]
"""A blurred frame, too little overlap, a frame or several frames that contradict the others, cameras in one place, and
large parts without reliable depth such as sky and mirrors."""

LEAST_OVERLAP = 0.1
"""Share of a frame that another must show for the two to be linked, or judged on what they share."""
LIKENESS_LOSS, LOSS_FACTOR, LARGEST_LOSS = 0.2, 5.0, 0.4
"""Loss of likeness, 1 less the correlation, up to which frames are linked: the factor times that of the scene's median
frame, within these bounds."""
LEAST_DETAIL = 0.5
"""Fine detail of a sharp frame, relative to what other frames show of the same surfaces."""
LEAST_PARALLAX, LEAST_BASELINE = 0.08, 0.05
"""Likeness gained by the cameras' motion, and largest distance of cameras over the median depth."""
MOST_UNSURE = 0.5
"""Share of a frame that may have no reliable depth."""
_DEPTHS = 100_000
"""Number of depths above which they are thinned before their median is taken."""
_NAMED = 3
_SUBJECTS = {"blur": "blurred", "overlap": "too little overlap", "misfit": "does not fit", "scene": "another scene",
             "parallax": "no parallax", "unsure": "unreliable depth"}  # fmt: skip
assert set(_SUBJECTS) == set(get_args(FindingKind))


@dataclass(frozen=True)
class Finding:
    """Something that went wrong.

    Attributes:
        kind: see ``FindingKind``.
        frames: indices of the frames concerned.
        value: the measured quantity, of the worst of the frames.
        threshold: the value at which the finding begins.
        text: one sentence.
    """

    kind: FindingKind
    frames: tuple[int, ...]
    value: float
    threshold: float
    text: str

    @property
    def label(self) -> str:
        """A few words for a badge, with numbers of frames from 1 on."""
        shown = ", ".join(str(frame + 1) for frame in self.frames[:_NAMED])
        more = " …" if len(self.frames) > _NAMED else ""
        return _SUBJECTS[self.kind] + (f": {shown}{more}" if self.kind != "parallax" else "")


@dataclass(frozen=True)
class FrameQuality:
    """Measured quantities of a frame; None where there was nothing to measure them on.

    Attributes:
        name: of the frame.
        group: number of its group of linked frames, 0 for the largest.
        overlap: largest mutual share of surface that it sees in common with another frame.
        likeness: highest correlation of colors with another frame that it overlaps.
        detail: median of its fine detail relative to that of linked frames, on the same surfaces; 1 is equal.
        unsure_share: share of its pixels without reliable depth.
    """

    name: str
    group: int
    overlap: float | None
    likeness: float | None
    detail: float | None
    unsure_share: float | None


@dataclass(frozen=True)
class Quality:
    """What was measured, and what went wrong.

    Attributes:
        frames: one per frame.
        link_likeness: least likeness at which frames were linked.
        parallax: mean likeness that the cameras' motion gains between linked frames.
        baseline: largest distance of two cameras over the median depth.
        findings: empty if all is well.
    """

    frames: tuple[FrameQuality, ...]
    link_likeness: float
    parallax: float | None
    baseline: float
    findings: tuple[Finding, ...]


def assess(prediction: Prediction, on_progress: OnProgress | None = None) -> Quality | None:
    """Measure the quality of a reconstruction; None if it has no cameras, or neither depth nor world points."""
    if prediction.cam_from_world is None or prediction.intrinsics is None:
        return None
    if prediction.depth is None and prediction.world_points is None:
        return None
    surfaces = Surfaces.of(prediction)
    reliable = reliable_pixels(prediction, surfaces)
    agreement = measure_agreement(prediction, surfaces, reliable, on_progress)
    links = _Links.of(agreement)
    detail = _detail(agreement, links.linked)
    unsure = _unsure_shares(surfaces, reliable)
    overlap = _off_diagonal(np.minimum(agreement.seen, agreement.seen.T))
    frames = tuple(
        FrameQuality(name, int(links.group[i]), *map(_plain, (overlap[i], links.best[i], detail[i], unsure[i])))
        for i, name in enumerate(prediction.names)
    )
    parallax = _mean(agreement.parallax[links.linked])
    baseline = _baseline(surfaces, reliable)
    findings = (
        *_group_findings(frames, links, agreement),
        *_frame_findings(frames),
        *_one_place(frames, parallax, baseline),
    )
    return Quality(frames, links.threshold, _plain(parallax), baseline, findings=findings)


def quality_details(quality: Quality) -> dict[str, Any]:
    """Return a quality as plain JSON values, rounded to four digits after the point."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 4)
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value

    findings = [asdict(finding) | {"label": finding.label} for finding in quality.findings]
    return plain(asdict(quality) | {"findings": findings})


@dataclass(frozen=True)
class _Links:
    """Groups of frames that agree.

    Attributes:
        best: [S] highest likeness with a frame that overlaps; NaN without one.
        threshold: least likeness of linked frames.
        linked: [S, S] bool, symmetric, False on the diagonal.
        group: [S] numbers of groups, 0 for the largest, of equal ones the one with the first frame.
    """

    best: np.ndarray
    threshold: float
    linked: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, agreement: Agreement) -> _Links:
        likeness = np.where(agreement.overlap >= LEAST_OVERLAP, agreement.likeness, np.nan)
        likeness = np.fmax(likeness, likeness.T)
        np.fill_diagonal(likeness, np.nan)
        best = np.fmax.reduce(likeness, 1)
        usual = float(np.median(np.nan_to_num(best)))
        threshold = 1 - float(np.clip(LOSS_FACTOR * (1 - usual), LIKENESS_LOSS, LARGEST_LOSS))
        linked = np.nan_to_num(likeness) >= threshold
        _, labels = connected_components(linked, directed=False)
        sizes = np.bincount(labels)
        order = sorted(range(len(sizes)), key=lambda label: (-sizes[label], int(np.argmax(labels == label))))
        return cls(best, threshold, linked, np.argsort(order)[labels])


def _group_findings(frames: Sequence[FrameQuality], links: _Links, agreement: Agreement) -> Iterator[Finding]:
    """Yield the findings about groups of frames that are not linked with the largest."""
    main = np.flatnonzero(links.group == 0)
    groups = [np.flatnonzero(links.group == number) for number in range(1, int(links.group.max()) + 1)]
    if groups and len(main) == 1:
        everyone, value = tuple(range(len(frames))), float(np.nan_to_num(np.fmax.reduce(links.best)))
        text = f"no two of the {len(frames)} frames agree: the reconstruction is not reliable"
        yield Finding("misfit", everyone, value, links.threshold, text=text)
        return
    overlap = np.maximum(agreement.overlap, agreement.overlap.T)
    shares = [float(overlap[np.ix_(group, main)].max()) for group in groups]
    apart = [int(i) for group, share in zip(groups, shares, strict=True) if share < LEAST_OVERLAP for i in group]
    near = [group for group, share in zip(groups, shares, strict=True) if share >= LEAST_OVERLAP]
    lone = [int(group[0]) for group in near if len(group) == 1]
    if apart:
        verb = "shares" if len(apart) == 1 else "share"
        text = f"{_named(frames, apart)} {verb} too little with the other frames: take pictures in between"
        yield Finding("overlap", tuple(apart), min(shares), LEAST_OVERLAP, text=text)
    if lone:
        who = "does not fit the other frames: it may show" if len(lone) == 1 else "do not fit: they may show"
        text = f"{_named(frames, lone)} {who} another place, or be placed wrongly"
        yield Finding("misfit", tuple(lone), _between(agreement, lone, main), links.threshold, text=text)
    for group in near:
        if len(group) > 1:
            text = f"{_named(frames, group)} do not fit the other frames: they may show another scene"
            yield Finding("scene", tuple(group.tolist()), _between(agreement, group, main), links.threshold, text=text)


def _frame_findings(frames: Sequence[FrameQuality]) -> Iterator[Finding]:
    blurred = [i for i, frame in enumerate(frames) if frame.detail is not None and frame.detail < LEAST_DETAIL]
    if blurred:
        least = min(frames[i].detail or 0.0 for i in blurred)
        verb = "is" if len(blurred) == 1 else "are"
        text = f"{_named(frames, blurred)} {verb} blurred: {100 * least:.0f} % of the detail that others show there"
        yield Finding("blur", tuple(blurred), least, LEAST_DETAIL, text=text)
    unsure = [i for i, f in enumerate(frames) if f.group == 0 and (f.unsure_share or 0.0) > MOST_UNSURE]
    if unsure:
        most = max(frames[i].unsure_share or 0.0 for i in unsure)
        verb, up_to = ("has", "") if len(unsure) == 1 else ("have", "up to ")
        text = f"{_named(frames, unsure)} {verb} no reliable depth on {up_to}{100 * most:.0f} %: sky, mirrors or glass?"
        yield Finding("unsure", tuple(unsure), most, MOST_UNSURE, text=text)


def _one_place(frames: Sequence[FrameQuality], parallax: float, baseline: float) -> Iterator[Finding]:
    if len(frames) > 1 and (parallax < LEAST_PARALLAX or (not np.isnan(parallax) and baseline < LEAST_BASELINE)):
        text = "all frames seem to be taken from one place: depth and scale are guesses, so move the camera"
        yield Finding("parallax", tuple(range(len(frames))), parallax, LEAST_PARALLAX, text=text)


def _between(agreement: Agreement, group: Sequence[int] | np.ndarray, main: np.ndarray) -> float:
    """Return the highest likeness of a group's frames with those of the largest group."""
    both = np.fmax(agreement.likeness, agreement.likeness.T)[np.ix_(np.asarray(group), main)]
    return float(np.nan_to_num(np.fmax.reduce(both, None)))


def _detail(agreement: Agreement, linked: np.ndarray) -> np.ndarray:
    """Return the detail [S] of each frame relative to linked frames; NaN without one."""
    there, back = agreement.detail, -agreement.detail.T
    both = np.where(np.isnan(there), back, np.where(np.isnan(back), there, (there + back) / 2))
    both = np.where(linked, both, np.nan)
    known = [row[~np.isnan(row)] for row in both]
    return np.array([np.exp(np.median(row)) if len(row) else np.nan for row in known])


def _unsure_shares(surfaces: Surfaces, reliable: Reliable) -> np.ndarray:
    """Return the share [S] of valid pixels that are not reliable; NaN for frames without valid pixels."""
    frames = range(len(surfaces.cameras))
    counts, kept = (np.array([int(of(frame).sum()) for frame in frames]) for of in (surfaces.valid, reliable))
    return np.where(counts > 0, 1 - kept / np.maximum(counts, 1), np.nan)


def _baseline(surfaces: Surfaces, reliable: Reliable) -> float:
    centers = camera_centers(surfaces.cameras)
    largest = np.sqrt(((centers[:, None] - centers) ** 2).sum(-1)).max()
    step, skipped, depths = 1 + surfaces.depth.size // _DEPTHS, 0, []
    for frame in range(len(centers)):
        values = surfaces.depth[frame][reliable(frame)]
        depths.append(values[skipped::step])
        skipped = (skipped - len(values)) % step
    depth = np.concatenate(depths)
    return float(largest / np.median(depth)) if len(depth) else 0.0


def _off_diagonal(values: np.ndarray) -> np.ndarray:
    """Return the largest value [S] off the diagonal in each row of [S, S]; NaN of one frame."""
    others = values[~np.eye(len(values), dtype=bool)].reshape(len(values), -1)
    return others.max(1) if others.shape[1] else np.full(len(values), np.nan)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _named(frames: Sequence[FrameQuality], indices: Sequence[int] | np.ndarray) -> str:
    """Return the names of some frames, the first few of many."""
    names = [frames[int(i)].name for i in indices]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
