"""Messages about names that do not exist, and packages that are not installed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from qvggt.types import QvggtError


def did_you_mean(name: object, known: Iterable[str], shown: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the end of a message about an unknown name, with the nearest known one; empty if none is near.

    Args:
        name: what the user gave.
        known: the names that exist.
        shown: what is suggested for some of them in place of the name.

    >>> did_you_mean("GPTK", ["rtn", "awq", "gptq"]), did_you_mean("magic", ["rtn", "awq", "gptq"])
    ('; did you mean gptq?', '')
    """
    folded = {each.casefold(): shown.get(each, each) for each in known}
    close = difflib.get_close_matches(str(name).casefold(), folded, n=1)
    return f"; did you mean {folded[close[0]]}?" if close else ""


def missing_extra(what: str, extra: str) -> QvggtError:
    """Return the error for something that needs an optional part of this package.

    >>> str(missing_extra("a.mp4 is a video, which", "video"))
    'a.mp4 is a video, which needs: pip install "qvggt[video]" (qvggt doctor lists what is missing)'
    """
    return QvggtError(f'{what} needs: pip install "qvggt[{extra}]" (qvggt doctor lists what is missing)')
