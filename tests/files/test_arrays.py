"""Arrays come back as numpy reads them; damaged and hostile files end in one sentence."""

import io
import zipfile

import numpy as np
import pytest

from qvggt.files.arrays import read_npy, read_npz
from qvggt.types import QvggtError

ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.zeros((0, 3), np.float32),
    np.array(["a", "longer é"]),
    np.float64(3),
    np.zeros((130, 400, 3), np.float16),
]


@pytest.mark.parametrize("array", ARRAYS, ids=str)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_read_npz_returns_what_was_saved(tmp_path, array, save):
    save(tmp_path / "a.npz", x=array, y=array, z=array)
    np.save(tmp_path / "a.npy", array)
    found = read_npz(tmp_path / "a.npz", ("x", "y", "other"))
    assert set(found) == {"x", "y"}
    for value in (*found.values(), read_npy(tmp_path / "a.npy")):
        np.testing.assert_array_equal(value, array, strict=True)


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(15)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(17)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,)}", bytes(16)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-2,)}", bytes(16)),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,", bytes(16)),
        npy("(" * 900, bytes(16)),
        npy("'''", bytes(16)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(16), b"\x07\x00"),
    ],
    ids=range(11),
)
def test_read_npy_refuses_damage_in_one_sentence(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(QvggtError, match=r"the depth map .*a\.npy is damaged \(.+\): export it again"):
        read_npy(tmp_path / "a.npy", "export it again", "the depth map")


@pytest.mark.parametrize("damage", [lambda d: d[:-40], lambda d: d[:150] + b"\x01" + d[151:], lambda d: b"not a zip"])
def test_read_npz_refuses_damage(tmp_path, damage):
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(50))
    (tmp_path / "a.npz").write_bytes(damage(stream.getvalue()))
    with pytest.raises(QvggtError, match="damaged"):
        read_npz(tmp_path / "a.npz", ("x",))


def test_read_npz_refuses_a_zip_bomb(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (99,)}", bytes(1 << 27)))
    with pytest.raises(QvggtError, match="expands to more than"):
        read_npz(tmp_path / "a.npz", ("x",))


def test_read_npz_refuses_a_renamed_array(tmp_path):
    np.savez(tmp_path / "a.npz", depth=np.zeros(3), images=np.zeros(3))
    data = (tmp_path / "a.npz").read_bytes()
    at = data.rindex(b"depth")  # in the directory; the name in front of the data stays
    (tmp_path / "a.npz").write_bytes(data[:at] + b"D" + data[at + 1 :])
    with pytest.raises(QvggtError, match="damaged"):
        read_npz(tmp_path / "a.npz", ("images", "depth"))
