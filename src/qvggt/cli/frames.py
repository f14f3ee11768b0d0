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
) -> None:
    """Write sharp frames of a video, spread over the camera's motion, as pictures, with a contact sheet."""
    from qvggt.cli.show import progress, say
    from qvggt.export.video_frames import CONTACT, DOCUMENT, IMAGES, write_frames
    from qvggt.files import new_folder
    from qvggt.images.choose_frames import choose_frames, measure_video

    options = FrameOptions(number, format)
    with new_folder(output, (f"{IMAGES}/", CONTACT, DOCUMENT), overwrite) as folder, progress(str(video)) as update:
        track = measure_video(video, lambda share: update("measuring", 0.9 * share))
        update("writing pictures", 0.9)
        chosen = choose_frames(track, options.number)
        written = write_frames(video, track, chosen, folder, picture_format=options.format)
    least = min(written["frames"], key=lambda frame: frame["relative_sharpness"])
    say(
        f"{len(chosen)} of the {len(track.time_s)} frames of {video.name}, "
        f"{track.time_s[-1] - track.time_s[0]:.1f} s and {track.motion[-1]:.1f} widths of motion; "
        f"the least sharp has {least['relative_sharpness']:.2f} of the sharpness around it"
    )
    say(f"{output}: {IMAGES}/, {CONTACT}, {DOCUMENT}")
    say(f"next: qvggt reconstruct MODEL {output / IMAGES} -o OUT")
