"""``qvggt frames``: sharp, well spread frames of a video as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from qvggt.cli import arguments as given
from qvggt.options import FrameOptions, PictureFormat

Video = Annotated[Path, given.Positional, given.argument("VIDEO", "a video")]


def frames(
    video: Video,
    output: given.Output,
    number: Annotated[int, given.number("number of frames", None, "N")] = FrameOptions.number,
    format: Annotated[PictureFormat, tyro.conf.arg(help="file format of the pictures")] = FrameOptions.format,
    overwrite: given.Overwrite = False,
    json: given.Json = None,
) -> None:
    """Write sharp frames of a video, spread over the camera's motion, as pictures, with a contact sheet."""
    from qvggt.cli.show import check_figures, progress, save_figures, say
    from qvggt.export.video_frames import CONTACT, DOCUMENT, IMAGES, write_frames
    from qvggt.files import new_folder
    from qvggt.images.choose_frames import choose_frames, measure_video

    options = FrameOptions(number, format)
    check_figures(json)
    with new_folder(output, (f"{IMAGES}/", CONTACT, DOCUMENT), overwrite) as folder, progress(str(video)) as update:
        track = measure_video(video, lambda share: update("measuring", 0.9 * share))
        update("writing pictures", 0.9)
        chosen = choose_frames(track, options.number)
        written = write_frames(video, track, chosen, folder, picture_format=options.format)
    figures = {
        "frames": len(chosen),
        "video_frames": len(track.time_s),
        "video_seconds": float(track.time_s[-1] - track.time_s[0]),
        "motion_widths": float(track.motion[-1]),
        "least_relative_sharpness": min(frame["relative_sharpness"] for frame in written["frames"]),
    }
    say(
        f"{figures['frames']} of the {figures['video_frames']} frames of {video.name}, "
        f"{figures['video_seconds']:.1f} s and {figures['motion_widths']:.1f} widths of motion; "
        f"the least sharp has {figures['least_relative_sharpness']:.2f} of the sharpness around it"
    )
    say(f"{output}: {IMAGES}/, {CONTACT}, {DOCUMENT}")
    say(f"next: qvggt reconstruct MODEL {output / IMAGES} -o OUT")
    save_figures(json, figures)
