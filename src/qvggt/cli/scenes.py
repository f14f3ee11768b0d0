"""Many scenes in one ``qvggt reconstruct``, as options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from qvggt.cli import arguments as given
from qvggt.options import LoadOptions, SceneOptions, WorkerOptions
from qvggt.types import QvggtError

if TYPE_CHECKING:
    from qvggt.api.reconstruct_scenes import ScenesReport


@dataclass(frozen=True)
class BatchValues:
    """Which scenes are reconstructed in the place of one, and where."""

    scenes: Annotated[
        tuple[str, ...],
        given.option("GLOB", "in place of IMAGES: every folder and video that matches is a scene, to DIR/<its name>"),
    ] = ()
    ray: given.Ray = WorkerOptions.ray
    workers: given.Workers = WorkerOptions.workers

    def check(self, images: tuple[str, ...], of_one_scene: Mapping[str, bool]) -> None:
        """Raise QvggtError if options of one scene and of many are mixed.

        Args:
            images: of one scene.
            of_one_scene: names of options that can hold for one scene only, and whether they are given.
        """
        if not self.scenes:
            if self.ray is not None or self.workers is not None:
                raise QvggtError("--ray and --workers spread many scenes: name them (--scenes)")
            return
        wrong = "IMAGES" if images else next((name for name, is_given in of_one_scene.items() if is_given), None)
        if wrong is not None:
            raise QvggtError(f"{wrong} can hold for one scene only: leave out that or --scenes")

    def run(
        self,
        model: str,
        output: Path,
        options: SceneOptions,
        loading: LoadOptions,
        *,
        revision: str | None,
        threads: int | None,
        overwrite: bool,
        json: Path | None,
    ) -> None:
        """Reconstruct the scenes and print a table of them.

        Raises:
            QvggtError: some scenes failed, of which each is named in a line, or none could be computed.
        """
        from qvggt.api.reconstruct_scenes import reconstruct_scenes
        from qvggt.cli.messages import say_why
        from qvggt.cli.show import count_text, progress, save_figures, say
        from qvggt.inference.process_memory import peak_memory_bytes, size_text

        workers, finished = WorkerOptions(self.ray, self.workers, threads), []
        try:
            with progress(model) as update:
                report = reconstruct_scenes(
                    model, self.scenes, output, options, loading=loading, revision=revision, workers=workers,
                    overwrite=overwrite, on_progress=update, on_scene=lambda scene: finished.append(not scene.error),
                )  # fmt: skip
        except KeyboardInterrupt:
            if any(finished):
                kept = count_text(sum(finished), "finished scene")
                say_why(f"{kept} kept in {output}: the same command goes on after them")
            raise
        _show(report)
        figures: dict[str, Any] = {"model": model, **report.to_json()}
        if self.ray is None:
            figures["peak_memory_bytes"] = peak_memory_bytes()
            say(f"peak memory {size_text(figures['peak_memory_bytes'])}")
        save_figures(json, figures)
        for scene in report.failed:
            say_why(f"{scene.name}: {scene.error}")
        if report.failed:
            total = count_text(len(report.scenes), "scene")
            raise QvggtError(f"{len(report.failed)} of {total} failed; the others are in {output}")
        say(f"{output}: {count_text(len(report.scenes), 'scene')}")


def _show(report: ScenesReport) -> None:
    from rich.table import Table

    from qvggt.cli.show import say_table

    table = Table("scene", "frames", "pixels", "seconds", "quality", box=None, header_style="bold")
    for column in table.columns[1:4]:
        column.justify = "right"
    for scene in report.scenes:
        if scene.error:
            table.add_row(scene.name, "", "", "", "failed")
            continue
        seconds = "kept" if scene.seconds is None else f"{scene.seconds:.1f}"
        pixels, quality = f"{scene.width_px}x{scene.height_px}", "; ".join(scene.quality) or "no faults found"
        table.add_row(scene.name, str(scene.frames), pixels, seconds, quality)
    say_table(table)
