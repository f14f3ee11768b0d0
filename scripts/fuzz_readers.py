"""Give damaged files to every reader; each must be read, or be refused in one sentence.

    python scripts/fuzz_readers.py [--inputs 20000] [--seed 0] [READER ...]

A fault is an exception that is no QvggtError, a signal, more than 10 s, or a change that a format with checksums does
not notice. Bits of tensors in a .safetensors file of float weights have no checksum: such a change cannot be seen.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import logging
import multiprocessing
import os
import random
import re
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

LIMIT_S = 10.0
REFUSED, SAME, OTHER = "refused", "read as it was", "read with other values"
STRINGS = ("", "\0", "\ud800", "../../x", "/etc/passwd", "a" * 300, "\n", "ü", "nan", "1e999", "-1")
NUMBERS = (
    "NaN",
    "-Infinity",
    "1e999",
    "-1",
    "0",
    "-0.0",
    "9" * 400,
    "1e-320",
    "1e308",
    '"x"',
    "null",
    "true",
    "[]",
    "{}",
)
WORDS = ("nan", "inf", "-inf", "1e999", "0", "-1", "99999999999999999999", "x", "", "\0", "0x10", "1_0", "٣", "é")
TEXTS = (".json", ".txt", ".jgz")


def damaged(data: bytes, name: str, rng: random.Random) -> bytes:
    """Return a file's bytes after one to three random changes; text and JSON inside of compression also change."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if name.endswith(".jgz") and rng.random() < 0.6:
            with contextlib.suppress(OSError, EOFError, zlib.error):
                data = gzip.compress(_damaged_text(gzip.decompress(data), rng), 1)
                continue
        if name.endswith(TEXTS[:2]) and rng.random() < 0.7:
            data = _damaged_text(data, rng)
        elif name.endswith(".safetensors") and rng.random() < 0.5 and len(data) > 8:
            length = int.from_bytes(data[:8], "little")
            header = _damaged_text(data[8 : 8 + length], rng) if rng.random() < 0.8 else data[8 : 8 + length]
            data = len(header).to_bytes(8, "little") + header + data[8 + length :]
        else:
            data = _damaged_bytes(data, rng)
    return data


def _damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return rng.randbytes(rng.randrange(40))
    at = rng.randrange(len(data))
    # Most changes go to the beginning or the end, where headers and directories are.
    at = {0: at, 1: at, 2: at % 256, 3: max(0, len(data) - 1 - at % 256)}[rng.randrange(4)] % len(data)
    end = min(len(data), at + rng.choice((1, 2, 4, 8, 100)))
    kind = rng.randrange(9)
    if kind < 3:
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if kind == 3:
        return data[:at]
    if kind == 4:
        return data[:at] + data[end:]
    if kind == 5:
        return data[:at] + rng.randbytes(end - at) + data[end:]
    if kind == 6:
        return data[:at] + rng.choice((b"\0", b"\xff")) * (end - at) + data[end:]
    if kind == 7:
        return data[:at] + rng.randbytes(rng.choice((1, 4, 100))) + data[at:]
    return rng.choice((b"", data + data, data[::-1], data + b"\0", b"[" * 100_000, rng.randbytes(50)))


def _damaged_text(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "surrogateescape")
    pattern, values = rng.choice(
        [
            (r"-?\d[\d.eE+-]*", NUMBERS if text.lstrip()[:1] in "[{" else WORDS),
            (r'"[^"]*"', tuple(map(json.dumps, STRINGS))),
            (r"[^\s]+", WORDS),
            (r"[\[\]{},:]", ("", "[", "]", "{", "}", ",", ":", "[" * 200)),
            (r"[^\n]*\n", ("", "\n", "\n\n", "x\n")),
        ]
    )
    found = list(re.finditer(pattern, text)) if len(text) < 200_000 else []
    if not found:
        return _damaged_bytes(data, rng)
    place = rng.choice(found)
    return (text[: place.start()] + rng.choice(values) + text[place.end() :]).encode("utf-8", "surrogateescape")


def outcomes(name: str, numbers: range, seed: int) -> Iterator[tuple[int, str, str]]:
    """Yield (number, outcome, detail) of the inputs of one reader; outcomes beyond the three good ones are faults."""
    from fuzz_inputs import READERS, digest

    from qvggt.types import QvggtError

    reader = READERS[name]
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="qvggt-fuzz-") as place:
        folder = Path(place)
        reader.write(folder)
        good = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        files = [path for path in good if path.name not in ("settings.json", ".qvggt-manifest.json")]
        expected = digest(reader.read(folder))
        _restore(folder, good)
        for number in numbers:
            rng = random.Random(f"{seed}/{name}/{number}")
            path = rng.choice(files)
            data = damaged(good[path], path.name, rng)
            path.write_bytes(data)
            yield number, "", path.name
            try:
                value = reader.read(folder)
                same = value is None or data == good[path] or digest(value) == expected
                taken = reader.sealed and not same
                outcome = "taken in spite of checksums" if taken else SAME if same else OTHER
                detail = path.name
            except QvggtError as error:
                sentence = str(error)
                plain = sentence.isprintable() and len(sentence) < 2000
                outcome, detail = (REFUSED, "") if plain else ("refused in no plain sentence", ascii(sentence)[:300])
            except Exception as error:
                outcome, detail = type(error).__name__, f"{path.name}: {ascii(str(error))[:300]}"
            yield number, outcome, detail
            _restore(folder, good, path)


def _restore(folder: Path, good: dict[Path, bytes], changed: Path | None = None) -> None:
    """Make the files of a folder the good ones again: those that are changed or gone, and no others."""
    for other in set(folder.rglob("*")) - set(good):
        if other.is_file():
            other.unlink()
    for path, content in good.items():
        if path == changed or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _work(connection: Connection, name: str, numbers: range, seed: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    for item in outcomes(name, numbers, seed):
        connection.send(item)
    connection.send(None)


def _supervised(name: str, numbers: range, seed: int) -> list[tuple[int, str, str]]:
    """Run inputs in a process of their own, which is started again after a hang or a signal."""
    context, found = multiprocessing.get_context("spawn"), []
    while numbers:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, name, numbers, seed))
        process.start()
        theirs.close()
        current, detail = numbers[0], "before the first input"
        try:
            started = False
            while ours.poll(LIMIT_S if started else 120.0):
                item = ours.recv()
                if item is None:
                    current = numbers[-1]
                    break
                started = True
                current, outcome, detail = item
                if outcome:
                    found.append(item)
            else:
                found.append((current, "hang", detail))
        except EOFError:
            process.join()
            found.append((current, f"signal or exit {process.exitcode}", detail))
        process.kill()
        process.join()
        numbers = numbers[numbers.index(current) + 1 :]
    return found


def fuzz(inputs: int, seed: int = 0, names: tuple[str, ...] = (), processes: int | None = None) -> list[str]:
    """Return a row of a table for each reader: ``reader | inputs and what became of them | faults``."""
    from fuzz_inputs import READERS

    chosen = names or tuple(READERS)
    each = -(-inputs // len(chosen))
    with ThreadPoolExecutor(processes or os.cpu_count()) as pool:
        found = list(pool.map(lambda name: _supervised(name, range(each), seed), chosen))
    rows = []
    for name, items in zip(chosen, found, strict=True):
        counts = Counter(outcome for _, outcome, _ in items)
        faults = [item for item in items if item[1] not in (REFUSED, SAME, OTHER)]
        for number, outcome, detail in faults[:20]:
            sys.stderr.write(f"{name} #{number}: {outcome}: {detail}\n")
        good = ", ".join(f"{counts[kind]} {kind}" for kind in (REFUSED, SAME, OTHER) if counts[kind])
        rows.append(f"{name} | {len(items)} inputs: {good} | {len(faults)} faults")
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER")
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.stdout.write("\n".join(fuzz(options.inputs, options.seed, tuple(options.readers))) + "\n")


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent))
    main()
