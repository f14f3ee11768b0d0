from pathlib import Path

from qvggt.files import user_cache


def test_user_cache__is_where_the_variable_says_if_that_is_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "b"))
    assert user_cache() == tmp_path / "a" / "b" / "qvggt"
    assert user_cache().stat().st_mode & 0o777 == 0o700


def test_user_cache__ignores_a_relative_place(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    assert user_cache().is_relative_to(tmp_path)
    assert user_cache().is_dir()
    assert not (tmp_path / "caches").exists()
