import json
import math
from dataclasses import replace

import pytest

from qvggt.data.dataset import SequenceRecord
from qvggt.eval.plan import SceneTask
from qvggt.eval.results import SceneResult
from qvggt.eval.store import ResultStore, default_store
from qvggt.types import QvggtError

SETTINGS = {"dataset": "rooms", "split": "test", "model": "m", "protocols": ["pose-standard"]}
TASK = SceneTask(SequenceRecord("test/00001", ("a", "b", "c")), (2, 0))
RESULT = SceneResult("test/00001", "g", ("pose-standard",), 2, (0.1,), (math.inf,), {"absrel": 1 / 3}, ("a note",))


def test_what_is_put_is_got_to_the_bit(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    assert store.get(TASK) is None
    store.put(TASK, RESULT)
    assert store.get(TASK) == RESULT
    assert ResultStore(tmp_path, dict(reversed(SETTINGS.items()))).get(TASK) == RESULT
    assert not [path for path in store.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("change", [{"model": "n"}, {"protocols": ["pose-vggt"]}, {"split": "val"}, {"threads": 2}])
def test_other_settings_are_another_store(tmp_path, change):
    ResultStore(tmp_path, SETTINGS).put(TASK, RESULT)
    assert ResultStore(tmp_path, SETTINGS | change).get(TASK) is None


def test_other_frames_are_another_result(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    store.put(TASK, RESULT)
    for frames in ((0, 2), (2,), (2, 1)):
        assert store.get(replace(TASK, frames=frames)) is None
    renamed = replace(TASK, record=SequenceRecord("test/00001", ("a", "b", "x")))
    assert store.get(renamed) is None


def test_names_that_look_alike_are_kept_apart(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    for name in ("a/b", "a_b", "a:b", "x" * 300):
        task = SceneTask(SequenceRecord(name, ("f",)), (0,))
        assert store.get(task) is None
        store.put(task, replace(RESULT, scene=name))
        found = store.get(task)
        assert found is not None
        assert found.scene == name


@pytest.mark.parametrize("text", ["", "{", "[]", '{"frame_names": ["c", "a"]}', '{"frame_names": ["c"], "result": {}}'])
def test_get_ignores_a_damaged_result(tmp_path, text):
    store = ResultStore(tmp_path, SETTINGS)
    store.put(TASK, RESULT)
    (path,) = store.folder.glob("test_00001*.json")
    path.write_text(text)
    assert store.get(TASK) is None


def test_get_ignores_a_result_with_a_changed_digit(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    store.put(TASK, RESULT)
    (path,) = store.folder.glob("test_00001*.json")
    text = path.read_text()
    digit = next(i for i in range(text.index('"values"'), len(text)) if text[i].isdigit())
    path.write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    assert store.get(TASK) is None


def test_settings_can_be_read(tmp_path):
    store = ResultStore(tmp_path, SETTINGS)
    assert json.loads((store.folder / "settings.json").read_text()) == SETTINGS
    assert store.folder.name.startswith("rooms-test-")


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(QvggtError, match="cannot write"):
        ResultStore(tmp_path / "file", SETTINGS)


def test_default_place_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_store() == tmp_path / "qvggt" / "eval"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_store().parts[-2:] == ("qvggt", "eval")
