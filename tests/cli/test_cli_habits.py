"""What holds for every command: examples, verbosity, suggestions, completion, colors."""

import inspect
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import warnings

import pytest
from commands import MODEL, finish, process

from qvggt.cli import COMMANDS, main
from qvggt.cli.examples import EXAMPLES
from qvggt.cli.parsing import SHELLS, completion, parse
from qvggt.types import QvggtError


def test_every_command_has_examples():
    assert EXAMPLES.keys() == COMMANDS.keys()


def test_every_command_that_prints_figures_takes_json():
    without = {name for name, command in COMMANDS.items() if "json" not in inspect.signature(command).parameters}
    assert without == {"app"}


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_is_parsed(line):
    program, name, *arguments = shlex.split(line)
    call = parse(name, COMMANDS[name], arguments)
    assert (program, call.verbosity.quiet, call.verbosity.verbose) == ("qvggt", False, False)
    assert EXAMPLES[name].count(line) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_the_examples(qvggt, name):
    done = qvggt(name, "--help")
    assert done.out.endswith("".join(("examples:\n", *(f"  {line}\n" for line in EXAMPLES[name]), "\n")))
    assert "-q, --quiet" in done.out
    assert "-v, --verbose" in done.out


def test_main_help_states_the_exit_statuses(qvggt):
    text = " ".join(qvggt("--help").out.split())
    assert "exit status: 0 done, 1 error, 2 wrong arguments, 130 interrupted" in text


def test_quiet_prints_errors_only(qvggt, tmp_path):
    done = qvggt("inspect", MODEL, "-q", "--json", tmp_path / "x.json")
    assert (done.status, done.out, done.err) == (0, "", "")
    assert json.loads((tmp_path / "x.json").read_text())["parameters"] > 0
    assert qvggt("inspect", MODEL).out  # and does not last
    assert "not found" in qvggt("inspect", tmp_path / "missing", "--quiet").sentence


def test_quiet_silences_warnings_of_the_log_and_of_python(qvggt, monkeypatch):
    def open_model(*_):
        logging.getLogger("qvggt.x").warning("a warning")
        warnings.warn("another warning", stacklevel=1)
        raise QvggtError("the end")

    monkeypatch.setattr("qvggt.checkpoint.open.open_model", open_model)
    with pytest.warns(UserWarning, match="another"):
        assert "warning: a warning" in qvggt("inspect", MODEL).err
    assert qvggt("inspect", MODEL, "-q").sentence == "the end"


def test_verbose_prints_debug_messages_and_tracebacks(qvggt, tmp_path):
    level = logging.getLogger("qvggt").level
    done = qvggt("inspect", tmp_path / "missing", "-v")
    assert done.status == 1
    assert "Traceback" in done.err
    assert "qvggt.cli.parsing: " in done.err
    assert "not found" in done.err.splitlines()[-1]
    assert logging.getLogger("qvggt").level == level
    assert "Traceback" not in qvggt("inspect", tmp_path / "missing").err


def test_quiet_and_verbose_exclude_each_other(qvggt):
    done = qvggt("inspect", MODEL, "-q", "-v")
    assert done.status in (1, 2)
    assert "exclude each other" in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["inspec", MODEL], "inspect"),
        (["inspect", MODEL, "--verfy"], "--verify"),
        (["quantize", MODEL, "-o", "y", "--method", "gptk"], "did you mean gptq?"),
        (["reconstruct", MODEL, "x", "-o", "y", "--compute", "flaot32"], "did you mean float32?"),
        (["reconstruct", MODEL, "x", "-o", "y", "--compute=int88"], "did you mean int8?"),
        (["reconstruct", MODEL, "x", "-o", "y", "--heads", "camera", "dept"], "did you mean depth?"),
        (["reconstruct", "naon", "x", "-o", "y"], "did you mean nano?"),
        (["inspect", "vggt-1b"], "did you mean facebook/VGGT-1B?"),
        (["inspect", "seeded:vgt-1b"], "did you mean seeded:vggt-1b?"),
        (["export", "x", "-o", "y", "--format", "nerfstudo"], "did you mean nerfstudio?"),
        (["evaluate", MODEL, "--dataset", "room"], "did you mean rooms?"),
        (["evaluate", MODEL, "--split", "tset"], "did you mean test?"),
        (["evaluate", MODEL, "--protocol", "pose-standart"], "did you mean pose-standard?"),
        (["reconstruct", MODEL, "x", "-o", "y", "--global-attention", "exakt"], "did you mean exact?"),
        (["train", "nano-44", "-o", "y"], "did you mean nano-4?"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(qvggt, arguments, nearest, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    done = qvggt(*(str(photos) if argument == "x" else argument for argument in arguments))
    assert done.status in (1, 2)
    assert nearest in " ".join(done.err.split())


def test_a_missing_model_is_answered_with_the_nearest_file_beside_it(qvggt, tmp_path):
    (tmp_path / "vggt-4bit").mkdir()
    assert f"did you mean {tmp_path / 'vggt-4bit'}?" in qvggt("inspect", tmp_path / "vggt4bit").sentence


def test_completion__bash_script_is_valid_and_completes(tmp_path):
    script = tmp_path / "qvggt.bash"
    script.write_text(completion("bash", COMMANDS))
    subprocess.run(["bash", "-n", str(script)], check=True)

    def completed(*words):
        program = f"""source {script}
            read -r _ _ function _ <<< "$(complete -p qvggt)"
            COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; "$function"
            printf '%s\\n' "${{COMPREPLY[@]}}" """
        return subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert completed("qvggt", "recon") == ["reconstruct"]
    assert {"quantize", "plan"} <= set(completed("qvggt", ""))
    assert "--verify" in completed("qvggt", "inspect", "nano", "--ver")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_of_other_shells(qvggt, shell):
    done = qvggt("--print-completion", shell)
    assert (done.status, done.err) == (0, "")
    assert "reconstruct" in done.out


def test_completion__unknown_shells(qvggt):
    assert "did you mean bash?" in qvggt("--print-completion", "bahs").sentence
    assert all(shell in qvggt("--print-completion").sentence for shell in SHELLS)
    with pytest.raises(QvggtError, match="bash, zsh"):
        completion("powershell", COMMANDS)


def _in_a_terminal(*arguments, **environment):
    """Return what a command writes to a terminal."""
    ours, theirs = os.openpty()
    settings = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    running = subprocess.Popen(
        [sys.executable, "-m", "qvggt", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**settings, "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(theirs)
    text = b""
    try:
        while block := os.read(ours, 65536):
            text += block
    except OSError:  # Linux's way of saying that the other side is closed
        pass
    os.close(ours)
    running.wait(60)
    return text.decode()


COLOR = re.compile(r"\x1b\[(\d+;)*[39][0-7][;m]")


@pytest.mark.process
def test_no_color_is_honored_in_a_terminal():
    assert COLOR.search(_in_a_terminal("inspect", "--bar"))
    for arguments in (("inspect", "--bar"), ("inspect", "--help"), ("inspect", MODEL)):
        plain = _in_a_terminal(*arguments, NO_COLOR="1")
        assert COLOR.search(plain) is None


@pytest.mark.process
def test_pipes_get_neither_color_nor_progress(photos, tmp_path):
    arguments = ("reconstruct", MODEL, photos, "-o", tmp_path / "out")
    done = finish(process(*arguments, env={**os.environ, "TERM": "xterm"}))
    assert done.status == 0
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.out + done.err


def test_the_library_logs_and_does_not_print(capfd, photos, tmp_path):
    import qvggt

    model = qvggt.load(MODEL)
    qvggt.save(qvggt.quantize(MODEL), tmp_path / "packed")
    qvggt.save_prediction(qvggt.reconstruct(model, photos), tmp_path / "prediction.npz")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_an_output_that_the_caller_closed_ends_well(closed, monkeypatch):
    monkeypatch.setattr(sys, closed, None)  # what Python makes of `>&-`
    main(["inspect", MODEL])
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", "absent"])
    assert stopped.value.code == 1
