"""Damaged and hostile text and JSON files end in one sentence."""

import gzip
import json
import os
import pickle

import pytest

from qvggt.files.read import parse_json, read_json, read_json_object, read_text, reading
from qvggt.types import QvggtError

TEXT = json.dumps({"a": [1, 2.5, None, "é"]}, ensure_ascii=False)


@pytest.mark.parametrize("name", ["a.json", "a.jgz", "a.gz"])
def test_read_json_reads_plain_and_compressed_files(tmp_path, name):
    data = TEXT.encode()
    (tmp_path / name).write_bytes(data if name.endswith("json") else gzip.compress(data))
    assert read_json(tmp_path / name) == json.loads(TEXT)
    assert read_json_object(tmp_path / name) == json.loads(TEXT)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"{", "damaged"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"[" * 200_000, "nested"),
        (b"[" * 150 + b"]" * 150, "nested deeper than 100"),
        (b'{"a": NaN}', "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"9" * 5000, "damaged"),
    ],
)
def test_read_json_refuses_damage_in_one_sentence(tmp_path, content, words):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(QvggtError, match=words) as caught:
        read_json(path, "download it again", "the list")
    assert str(caught.value).startswith(f"the list {path}")
    assert str(caught.value).endswith("download it again")
    assert "\n" not in str(caught.value)


def test_read_json_allows_nan_if_asked(tmp_path):
    (tmp_path / "a.json").write_text("[NaN]")
    assert repr(read_json(tmp_path / "a.json", allow_nan=True)) == "[nan]"


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: b"x" + d[1:], lambda d: d[:12] + b"\xff" * 9 + d[21:]])
def test_read_json_refuses_damaged_compression(tmp_path, damage):
    path = tmp_path / "a.gz"
    path.write_bytes(damage(gzip.compress(TEXT.encode() * 9)))
    with pytest.raises(QvggtError, match="damaged"):
        read_json(path)


def test_read_json_refuses_a_gzip_bomb(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b" " * (1 << 27), 9))
    with pytest.raises(QvggtError, match="expands to more than"):
        read_json(path)


def test_read_json_object_refuses_other_values(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(QvggtError, match="expected a JSON object, got list"):
        read_json_object(tmp_path / "a.json")


def test_read_text_says_what_is_missing(tmp_path):
    with pytest.raises(QvggtError, match=r"^the list is missing: .*none.txt was looked for.*download"):
        read_text(tmp_path / "none.txt", "download it", "the list")
    with pytest.raises(QvggtError, match=r"no file .*none.txt"):
        read_text(tmp_path / "none.txt")


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "a" * 300])
def test_read_text_refuses_impossible_names(tmp_path, name):
    with pytest.raises(QvggtError) as caught:
        read_text(tmp_path / name)
    assert str(caught.value).isprintable()


def test_read_text_refuses_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(QvggtError, match="not a regular file"):
            read_text(path)


def test_parse_json_of_bytes():
    assert parse_json(TEXT.encode(), "header") == json.loads(TEXT)
    with pytest.raises(QvggtError, match="header is damaged"):
        parse_json(b"\xff", "header")


@pytest.mark.parametrize("error", [KeyError("x"), OverflowError("big"), RecursionError(), MemoryError(), EOFError()])
def test_reading_explains_what_damage_raises(error):
    with pytest.raises(QvggtError, match=r"^f is damaged \(.+\): get an intact copy$"), reading("f"):
        raise error


def test_reading_lets_other_errors_pass():
    with pytest.raises(RuntimeError), reading("f"):
        raise RuntimeError("a fault of ours")
    with pytest.raises(QvggtError, match=r"^clear$"), reading("f"):
        raise QvggtError("clear")


def test_qvggt_error_escapes_what_cannot_be_printed():
    error = QvggtError("a\0b\ud800\nc é")
    assert str(error) == r"a\x00b\ud800\nc é"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
