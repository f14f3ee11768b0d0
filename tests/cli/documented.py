"""The command lines in README.md and docs/, and what each becomes to be run here: on nano and a few small pictures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINE = re.compile(r"(?:\$ )?(?:\w+=\S+ )?(?:docker run .*? )?qvggt (?=[a-z-])(.*)")
_SHELLS = ("", "sh", "bash", "console")

WORDS = {
    "facebook/VGGT-1B": "nano", "seeded:vggt-1b": "nano", "MODEL": "nano", "FLOAT_MODEL": "nano",
    "RESULT": "house", "IMAGES": "photos", "FOLDER": "photos", "MASKS": "masks",
    "OUT": "out", "DIR": "out", "FILE": "report.json", "N": "5", "K": "4", "MODE": "float32", "SIZE": "8GB",
    "SOURCE": "a.jpg:b.jpg=1.5m",
    "video.mp4": "walk.mp4", "USER/vggt-4bit": "me/vggt-4bit",
    "a.jpg@1204,880:b.jpg@310,415=80cm": "a.jpg@120,88:b.jpg@31,41=80cm",
    "docs/images/turntable.webp": "turntable.webp",
}  # fmt: skip
"""Words in place of the model of full size, of placeholders, and of places that only this machine knows."""

NAMES = {"--format": "ply", "--method": "rtn"}
"""What NAME stands for, by the option before it."""

MOST = {
    "--frames": 6, "--scenes": 1, "--window": 5, "--number": 3, "--repeats": 1, "--size": 84, "--seconds": 0.5,
    "--calib-scenes": 2, "--calib-frames": 3, "--samples": 1, "--threads": 1,
}  # fmt: skip
"""The largest number that an option keeps."""

ADDED = {
    "evaluate": {"--scenes": "1"},
    "quantize qvggt+": {"--without": "select tune"},
    "quantize --method": {"--calib-scenes": "2", "--calib-frames": "1"},
    "sensitivity": {"--calib-scenes": "2", "--calib-frames": "1", "--bits": "4"},
    "reconstruct": {"--files": "prediction.npz"},
    "bench": {"--size": "28", "--repeats": "1", "--against": "nano"},
    "render": {"--frames": "2", "--size": "56", "--scenes": "1"},
    "plan": {"--frames": "2"},
    "view --turntable": {"--seconds": "0.5", "--size": "84"},
}
"""Options that make a command short, by how it begins; for those that it does not have itself."""

SMALLEST = "seeded:micro"
"""The model of commands that calibrate, and so pass many scenes through it."""

PARSED = {
    r"^app\b": "serves until it is stopped: tests/app opens its page",
    r"^view (?!.*--(html|turntable))": "serves until it is stopped: tests/cli/test_view_command.py looks at it",
    r" --view\b": "serves until it is stopped: tests/app/test_viewer_server.py looks at it",
    r" --ray\b": "starts a Ray cluster: tests/api/test_scenes_on_ray.py has one",
    r" --dataset co3d\b": "reads a dataset that is not here: tests/data/test_co3d.py writes a small one",
    r" clipped\b": "takes a package that is not installed: tests/methods/test_method_package.py has it",
    r"^train\b": "takes half a minute: tests/cli/test_train_command.py trains by a small recipe",
    r"^compare\b": "takes half a minute: tests/cli/test_compare_command.py compares the quickest methods",
    r"^export-model\b": "takes half a minute of a core: tests/onnx/test_export_model.py exports the smallest models",
    r"^demo\b": "tests/cli/test_demo_command.py runs it",
    r"^doctor\b(?!.*--quick)": "tests/api/test_self_test.py runs the self test, which takes seconds",
}
"""Commands that are not run here, by pattern, and why."""


@dataclass(frozen=True)
class Documented:
    """A command line of a page.

    Attributes:
        page: its file name.
        text: what follows ``qvggt``.
    """

    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"

    @property
    def words(self) -> list[str]:
        """The words as a shell splits them."""
        return shlex.split(self.text)

    @property
    def why_not_run(self) -> str | None:
        """Why the command is only parsed; None if it is run."""
        return next((why for pattern, why in PARSED.items() if re.search(pattern, self.text)), None)

    @property
    def small(self) -> list[str]:
        """The words of a command that does the same with little work."""
        found, option = [], ""
        for word in self.words:
            option = word if word.startswith("--") else option
            word = word.split("|")[0]
            if word == "NAME":
                word = NAMES[option]
            elif option in MOST and re.fullmatch(r"[\d.]+", word):
                word = str(min(float(word), MOST[option])).removesuffix(".0")
            found.append(WORDS.get(word, word))
        for start, options in ADDED.items():
            if found[0] == start.split()[0] and all(word in found for word in start.split()):
                found += [
                    each for name, value in options.items() if name not in found for each in (name, *value.split())
                ]
        costly = "--calib-scenes" in found and "--attention" not in found
        return [SMALLEST if costly and word == "nano" else word for word in found]


def documented() -> list[Documented]:
    """Return the command lines of all pages, each once."""
    found = [Documented(page.name, text) for page in PAGES for text in _commands(page.read_text(encoding="utf-8"))]
    return list({tuple(each.small): each for each in reversed(found)}.values())[::-1]


def _commands(text: str) -> Iterator[str]:
    """Yield what follows ``qvggt`` in code blocks, and in spans of code with more than the name of a command."""
    for language, block in _BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines() if language in _SHELLS else ():
            if line.strip().startswith("#"):
                continue
            match = _LINE.fullmatch(re.sub(r"\s+(#|>) .*", "", line.strip()))
            if match:
                yield match[1]
    for _, span in _SPAN.findall(_BLOCK.sub("", text)):
        match = re.fullmatch(r"qvggt ([a-z-]+ \S.*)", " ".join(span.split()))
        if match:
            yield match[1]
