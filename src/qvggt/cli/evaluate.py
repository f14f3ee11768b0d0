"""``qvggt evaluate``: a model's accuracy by published protocols."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from qvggt.cli.arguments import (
    ComputeMode,
    DataRoot,
    Dataset,
    Device,
    DrawnFrames,
    GlobalAttentionMode,
    Json,
    Model,
    Protocol,
    Revision,
    Split,
    WindowFrames,
    WindowOverlap,
    option,
)


def evaluate(
    model: Model,
    dataset: Dataset = "rooms",
    split: Split = None,
    protocol: Protocol = (),
    data_root: DataRoot = None,
    frames: DrawnFrames = None,
    every: Annotated[int | None, option("N", "or take every N-th frame")] = None,
    seed: Annotated[int, option("N", "of the choice of frames and scenes", None)] = 0,
    id_map: Annotated[Path | None, option("FILE", "frames of an earlier run; written if it is not there")] = None,
    scenes: Annotated[int | None, option("N", "measure so many scenes, chosen by the seed")] = None,
    landmarks: Annotated[float | None, option("0..1", "of rooms: how much one picture tells its own pose")] = None,
    baseline: Annotated[str | None, option("MODEL", "measure this one on the same frames too, or chance")] = None,
    fidelity_to: Annotated[str | None, option("MODEL", "how far predictions are from this float model's")] = None,
    store: Annotated[Path | None, option("DIR", "keep results of scenes here; by default in the user's cache")] = None,
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff, option("", "measure anew what is stored", "")] = False,
    engine: Annotated[Literal["local", "ray"], option("NAME", "this process, or a Ray cluster", None)] = "local",
    workers: Annotated[int | None, option("N", "of Ray; by default as many as there is room for")] = None,
    threads: Annotated[int, option("N", "of the CPU, in each process", None)] = 1,
    device: Device = "cpu",
    compute: ComputeMode = "float",
    global_attention: GlobalAttentionMode = "exact",
    window: WindowFrames = None,
    overlap: WindowOverlap = None,
    revision: Revision = None,
    json: Json = None,
) -> None:
    """Measure a model's cameras, depth and points by published protocols.

    Results are kept scene by scene: a run that was interrupted goes on where it was, and gives the same digits.
    """
    from qvggt.api.evaluate import evaluate as run_evaluation
    from qvggt.cli.evaluation_table import print_evaluation
    from qvggt.cli.show import check_figures, progress, save_figures
    from qvggt.eval.store import default_store
    from qvggt.inference import process_memory as costs
    from qvggt.options import RunOptions, Selection, WindowOptions

    check_figures(json)
    costs.retain_freed_memory()
    selection = Selection(data_root, frames, every, seed, id_map, scenes, landmarks)
    windows = None if window is None else WindowOptions(window, overlap)
    store = store or default_store()
    run = RunOptions(
        store, fresh, engine, workers, threads, device, compute, global_attention=global_attention, windows=windows
    )
    with progress(f"{dataset}") as update:
        evaluation = run_evaluation(
            model, dataset, split, protocol, selection, baseline, fidelity_to, run, revision, update
        )
    save_figures(json, evaluation.to_json())
    print_evaluation(evaluation)
