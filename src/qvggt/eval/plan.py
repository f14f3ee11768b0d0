"""Plan of an evaluation: the dataset, its scenes and their frames, and the protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qvggt.data.dataset import DatasetReader, SequenceRecord, chosen_frames, load_id_map, save_id_map
from qvggt.data.registry import DATASETS, open_dataset
from qvggt.data.sampling import FrameChoice, choose_frames, choose_sequences
from qvggt.data.splits import check_split
from qvggt.eval.protocols import PROTOCOLS, Protocol
from qvggt.options import Selection
from qvggt.options.messages import did_you_mean
from qvggt.types import QvggtError


@dataclass(frozen=True)
class SceneTask:
    """One scene to evaluate.

    Attributes:
        record: the sequence.
        frames: indices of its frames, in the order of the model's input.
    """

    record: SequenceRecord
    frames: tuple[int, ...]

    @property
    def frame_names(self) -> list[str]:
        """Names of the frames."""
        return chosen_frames(self.record, self.frames)


@dataclass(frozen=True)
class EvaluationPlan:
    """Protocols, scenes and frames of an evaluation; no image has been read yet.

    Attributes:
        dataset: a key of DATASETS.
        reader: of the split.
        protocols: at most one of a kind; empty if only fidelity to a float model is evaluated.
        choice: how frames were chosen, in words for tables.
        tasks: one per scene.
        selection: what was asked for.
    """

    dataset: str
    reader: DatasetReader
    protocols: tuple[Protocol, ...]
    choice: str
    tasks: tuple[SceneTask, ...]
    selection: Selection

    @property
    def landmarks(self) -> float | None:
        """Of rooms, how much a single image reveals of its own pose; None for other datasets."""
        return getattr(self.reader, "landmarks", None)

    def in_order(self) -> EvaluationPlan:
        """Return the plan with the frames of every scene as they follow one another, as windows need them.

        An id map that was given says the order itself.
        """
        tasks = tuple(replace(task, frames=tuple(sorted(task.frames))) for task in self.tasks)
        if tasks == self.tasks or self.selection.id_map is not None:
            return self
        return replace(self, tasks=tasks, choice=f"{self.choice}, in order")

    def settings(self) -> Mapping[str, Any]:
        """Return everything that determines a scene's figures besides its frames, the model and the machine."""
        root = self.selection.root
        return {
            "dataset": self.dataset,
            "split": self.reader.split,
            "root": None if root is None else str(Path(root).resolve()),
            "landmarks": self.landmarks,
            "protocols": [protocol.name for protocol in self.protocols],
        }


def plan_evaluation(dataset: str, split: str | None, protocols: Sequence[str], selection: Selection) -> EvaluationPlan:
    """List the scenes of a dataset and choose their frames.

    Args:
        dataset: a key of DATASETS.
        split: None for the dataset's default.
        protocols: names; none for the dataset's default.
        selection: which part of the dataset.

    Raises:
        QvggtError: the dataset, split or a protocol is unknown, or no scene is left.
    """
    if dataset in DATASETS:
        check_split(dataset, split or DATASETS[dataset].default_split)
    reader = open_dataset(dataset, selection.root, split, selection.landmarks, frames=selection.frames)
    info = DATASETS[dataset]
    named = _protocols(protocols or info.default_protocols)
    records = reader.sequences()
    choice = _choice(info.frames, selection)
    known = selection.id_map is not None and Path(selection.id_map).exists()
    id_map = load_id_map(selection.id_map, records) if selection.id_map is not None and known else None
    drawn = choose_frames(records, choice, selection.seed, id_map)
    candidates = [record for record in records if record.name in drawn]
    if not candidates:
        longest = max((len(record.frames) for record in records), default=0)
        raise QvggtError(
            f"no scene of {dataset} is in {selection.id_map}: give the id map of this dataset and split (--id-map)"
            if known
            else f"no scene of {dataset} has {choice.count} frames: ask for at most {longest} (--frames)"
        )
    if selection.id_map is not None and not known:
        save_id_map(selection.id_map, drawn, records)
    if selection.scenes is not None:
        candidates = choose_sequences(candidates, selection.scenes, selection.seed)
    tasks = tuple(SceneTask(record, drawn[record.name]) for record in candidates)
    text = f"as {selection.id_map} says" if known else str(choice)
    return EvaluationPlan(dataset, reader=reader, protocols=named, choice=text, tasks=tasks, selection=selection)


def _choice(usual: FrameChoice, selection: Selection) -> FrameChoice:
    if selection.frames is not None:
        return FrameChoice("random", selection.frames)
    return usual if selection.every is None else FrameChoice("every", selection.every)


def _protocols(names: Sequence[str]) -> tuple[Protocol, ...]:
    unknown = [name for name in names if name not in PROTOCOLS]
    if unknown:
        nearest = did_you_mean(unknown[0], PROTOCOLS)
        raise QvggtError(f"there is no protocol {unknown[0]!r}: choose from {', '.join(PROTOCOLS)}{nearest}")
    protocols = tuple(PROTOCOLS[name] for name in dict.fromkeys(names))
    first_of: dict[type, Protocol] = {}
    for protocol in protocols:
        other = first_of.setdefault(type(protocol), protocol)
        if other is not protocol:
            raise QvggtError(
                f"{other.name} and {protocol.name} report the same metrics: evaluate them in two runs (--protocol)"
            )
    return protocols
