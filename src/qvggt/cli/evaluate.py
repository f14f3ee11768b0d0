"""``qvggt evaluate``: a model's accuracy by published protocols."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from qvggt.cli import arguments as given
from qvggt.cli.arguments import Flag, flag, option
from qvggt.options import DATASET, Engine, LoadOptions, RunOptions, Selection, WindowOptions


def evaluate(
    model: given.Model,
    dataset: given.Dataset = DATASET,
    split: given.Split = None,
    protocol: given.Protocol = (),
    data_root: given.DataRoot = None,
    frames: given.DrawnFrames = Selection.frames,
    every: Annotated[int | None, option("N", "or take every N-th frame")] = Selection.every,
    seed: Annotated[int, option("N", "random seed of the choice of frames and scenes", None)] = Selection.seed,
    id_map: Annotated[Path | None, option("FILE", "frames of an earlier run; written if it does not exist")] = None,
    scenes: Annotated[int | None, option("N", "most scenes, chosen by the seed")] = Selection.scenes,
    landmarks: Annotated[float | None, option("0..1", "of rooms: visual landmarks, see docs/rooms.md")] = None,
    baseline: Annotated[str | None, option("MODEL", "also measure this model on the same frames, or chance")] = None,
    fidelity_to: Annotated[str | None, option("MODEL", "also compare with this float model in float32")] = None,
    store: Annotated[Path | None, option("DIR", "keep results of scenes here", "(default: the user's cache)")] = None,
    fresh: Annotated[bool, Flag, flag("measure stored results again")] = RunOptions.fresh,
    engine: Annotated[Engine, option("NAME", "this process, or a Ray cluster", None)] = RunOptions.engine,
    ray: given.Ray = RunOptions.ray,
    workers: given.Workers = RunOptions.workers,
    threads: given.Threads = RunOptions.threads,
    device: given.Device = RunOptions.device,
    compute: given.Compute = RunOptions.compute,
    global_attention: given.GlobalAttention = str(LoadOptions.global_attention),
    window: given.WindowFrames = None,
    overlap: given.WindowOverlap = WindowOptions.overlap,
    revision: given.Revision = None,
    json: given.Json = None,
) -> None:
    """Measure a model's cameras, depth and points by published protocols.

    Results are kept scene by scene: an interrupted run resumes where it stopped, and gives the same digits.
    """
    from qvggt.api.evaluate import evaluate as run_evaluation
    from qvggt.cli.evaluation_table import print_evaluation
    from qvggt.cli.show import check_figures, progress, save_figures
    from qvggt.eval.store import default_store
    from qvggt.inference.process_memory import retain_freed_memory

    check_figures(json)
    selection = Selection(data_root, frames, every=every, seed=seed, id_map=id_map, scenes=scenes, landmarks=landmarks)
    run = RunOptions(
        store or default_store(), fresh, engine=engine, workers=workers, threads=threads, device=device,
        compute=compute, global_attention=global_attention, windows=WindowOptions.of(window, overlap), ray=ray,
    )  # fmt: skip
    retain_freed_memory()
    with progress(dataset) as update:
        evaluation = run_evaluation(
            model, dataset, split, protocol, selection=selection, baseline=baseline, fidelity_to=fidelity_to,
            run=run, revision=revision, on_progress=update,
        )  # fmt: skip
    save_figures(json, evaluation.to_json())
    print_evaluation(evaluation)
