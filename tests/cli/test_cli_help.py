"""What the command line says of itself, and to those who mistype."""

import subprocess
import sys

import pytest
from commands import MODEL, finish, process

import qvggt as package
from qvggt.cli import COMMANDS


@pytest.mark.process
def test_version_in_a_process_of_its_own():
    done = finish(process("--version"))
    assert (done.status, done.out, done.err) == (0, f"qvggt {package.__version__}\n", "")


@pytest.mark.process
@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_neither_version_nor_help_waits_for_torch(argument):
    program = (
        "import sys; from qvggt.cli import main; main(sys.argv[1:]);"
        "print({'torch', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, argument], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_help_lists_every_command_and_fits_a_terminal(qvggt):
    done = qvggt("--help")
    assert done.status == 0
    assert qvggt("-h") == qvggt() == done
    assert all(f"\n  {name} " in done.out for name in COMMANDS)
    assert "--version" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(qvggt, command):
    done = qvggt(command, "--help")
    assert done.status == 0
    assert done.out.startswith(f"usage: qvggt {command}")
    assert done.err == ""
    for noise in ("(default: )", "{None}", "(default: None)", "(default: False)"):
        assert noise not in done.out


@pytest.mark.parametrize(
    ("typed", "answer"), [("quantise", "did you mean quantize?"), ("foo", "reconstruct"), ("--bar", "reconstruct")]
)
def test_an_unknown_command(qvggt, typed, answer):
    done = qvggt(typed)
    assert done.status == 2
    assert repr(typed) in done.sentence
    assert answer in done.sentence


@pytest.mark.parametrize(
    ("arguments", "missed"),
    [
        (["quantize", MODEL], "--output"),
        (["quantize", MODEL, "-o", "x", "--bits", "four"], "--bits"),
        (["quantize", MODEL, "-o", "x", "--scale-rule", "magic"], "absmax"),
        (["inspect"], "MODEL"),
        (["inspect", "x", "--color"], "--color"),
    ],
)
def test_what_cannot_be_parsed_is_shown_with_its_argument(qvggt, arguments, missed):
    done = qvggt(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert missed in done.err
    assert "Traceback" not in done.err


def test_missing_images(refused, tmp_path):
    assert refused("reconstruct", MODEL, "-o", tmp_path / "out") == (
        "no images given: name a folder, a video or image files"
    )


@pytest.mark.process
def test_who_reads_the_output_may_stop_early():
    with process("--help") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode in (0, 1)


@pytest.mark.process
def test_output_that_cannot_be_written_is_one_sentence():
    with open("/dev/full", "w") as full:
        done = finish(process("--help", stdout=full))
    assert done.sentence.startswith("the disk is full")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_too_little_memory_is_one_sentence(refused, photos, tmp_path, monkeypatch, error):
    def load(*_, **__):
        raise error

    monkeypatch.setattr("qvggt.api.reconstruct.load", load)
    assert "out of memory" in refused("reconstruct", MODEL, photos, "-o", tmp_path / "out")
