"""Tables of pages are those that the commands beside them print."""

import importlib.util
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def made(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PRINTED", tmp_path / "printed")
    return module


COMMAND = """python -c 'print("made\\n| a |\\n|---|\\n| 3 |\\n\\n| b |\\n|---|\\n| 4 |")'"""
PAGE = f"""Text.

<!-- table 2: {COMMAND} -->
| b |
|---|
| 1 |
| 2 |

More.

<!-- table: {COMMAND} -->
| a |
"""


def test_tables_are_replaced_and_nothing_else(made):
    assert made.commands_of(PAGE) == [COMMAND]
    tables = made.tables_of(made.output_of(COMMAND, again=False))
    text = made.with_tables(PAGE, COMMAND, tables)
    assert text == (
        f"Text.\n\n<!-- table 2: {COMMAND} -->\n| b |\n|---|\n| 4 |\n\nMore.\n\n"
        f"<!-- table: {COMMAND} -->\n| a |\n|---|\n| 3 |\n"
    )
    assert made.with_tables(text, COMMAND, tables) == text
    assert made.with_tables(PAGE, "another", tables) == PAGE


def test_a_command_runs_once_and_again_when_asked(made, tmp_path):
    command = shlex.join(["python", "-c", f"open({str(tmp_path / 'runs')!r}, 'a').write('x')"])
    for again in (False, False, True):
        made.output_of(f"{command} && {command}", again)
    assert (tmp_path / "runs").read_text() == 4 * "x"


def test_a_command_that_fails_or_prints_too_little_ends_it(made):
    with pytest.raises(SystemExit, match="ended with status 3"):
        made.output_of("python -c 'import sys; sys.exit(3)'", again=False)
    with pytest.raises(SystemExit, match="printed 1 tables, but the page has table 2"):
        made.with_tables(PAGE, COMMAND, [["| a |"]])


def test_every_mark_stands_above_a_table_and_names_a_script(made):
    marks = 0
    for page in sorted((ROOT / "docs").glob("*.md")):
        lines = page.read_text(encoding="utf-8").splitlines()
        for line, below in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith("<!-- table"):
                marks += 1
                assert below.startswith("| "), (page.name, line)
                for part in made.MARK.match(line)[2].split(" && "):
                    name, script, *_ = shlex.split(part)
                    assert name == "qvggt" or (ROOT / script).is_file(), (page.name, line)
    assert marks >= 11
