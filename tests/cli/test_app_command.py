"""``qvggt app`` as a command."""

import importlib.util
import os
import signal
import urllib.request

import pytest
from commands import MODEL, process


@pytest.fixture
def served(monkeypatch):
    """Return the options with which the command would have served."""
    kept = []
    monkeypatch.setattr("qvggt.app.web.server.serve", lambda options, on_ready: kept.append(options))
    monkeypatch.delenv("QVGGT_APP_PASSWORD", raising=False)
    return kept


@pytest.mark.process
@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="needs gradio")
def test_the_app_serves_until_it_is_interrupted_and_leaves_nothing(tmp_path):
    running = process("app", MODEL, "--port", "8760", env=os.environ | {"TMPDIR": str(tmp_path)})
    try:
        line = running.stdout.readline()
        assert "is the app" in line
        with urllib.request.urlopen(line.split()[0], timeout=60) as answer:
            assert answer.status == 200
            assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert [path.name[:10] for path in tmp_path.iterdir() if path.is_dir()] == ["qvggt-app-"]
    finally:
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_password_comes_from_the_environment_or_a_file(qvggt, served, tmp_path, monkeypatch):
    (tmp_path / "password.txt").write_text("open sesame \nnot this\n")
    qvggt("app", "--host", "0.0.0.0", "--password-file", tmp_path / "password.txt")
    monkeypatch.setenv("QVGGT_APP_PASSWORD", "other")
    qvggt("app", "--host", "0.0.0.0")
    assert [options.password for options in served] == ["open sesame", "other"]


def test_other_machines_are_refused_without_a_password(refused, served, tmp_path):
    assert "QVGGT_APP_PASSWORD" in refused("app", "--host", "0.0.0.0")
    (tmp_path / "empty.txt").touch()
    assert "password is empty" in refused("app", "--password-file", tmp_path / "empty.txt")
    assert "cannot be read" in refused("app", "--password-file", tmp_path / "none.txt")
    assert served == []


def test_options_become_limits(qvggt, served):
    qvggt("app", "nano", "a/b", "--max-images", 5, "--max-mb", 6, "--max-megapixels", 7, "--memory", "2GB")
    (options,) = served
    assert options.models == ("nano", "a/b")
    limits = options.limits
    assert (limits.images, limits.file_mb, limits.megapixels, limits.memory_bytes) == (5, 6, 7, 2 * 10**9)


def test_a_model_that_is_not_there_is_named_before_the_page_opens(refused):
    pytest.importorskip("gradio", reason="needs gradio")
    assert "'nanoo' not found" in refused("app", "nanoo")
    assert "'vggt-4bti' not found" in refused("app", MODEL, "vggt-4bti")


def test_without_gradio_the_extra_is_named(refused, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'qvggt[app]'" in refused("app")
