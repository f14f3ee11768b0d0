import pytest

from qvggt.data.registry import DATASETS, open_dataset
from qvggt.eval.protocols import PROTOCOLS
from qvggt.types import QvggtError

ON_DISK = [name for name, info in DATASETS.items() if info.on_disk]


@pytest.mark.parametrize("name", ON_DISK)
def test_every_split_opens_and_an_empty_folder_is_refused(tmp_path, name):
    info = DATASETS[name]
    assert info.default_split in info.splits
    for split in info.splits:
        with pytest.raises(QvggtError, match="looked for"):
            info.open(tmp_path, split).sequences()
    with pytest.raises(QvggtError, match="has no split 'nonsense'"):
        open_dataset(name, tmp_path, "nonsense")
    with pytest.raises(QvggtError, match="does not exist"):
        open_dataset(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", DATASETS)
def test_protocols_exist(name):
    assert DATASETS[name].protocols
    assert set(DATASETS[name].protocols) <= set(PROTOCOLS)
    assert set(DATASETS[name].default_protocols) <= set(DATASETS[name].protocols)


@pytest.mark.parametrize("name", ON_DISK)
def test_a_dataset_on_disk_needs_a_folder_and_no_landmarks(tmp_path, name):
    with pytest.raises(QvggtError, match="is read from a folder"):
        open_dataset(name)
    with pytest.raises(QvggtError, match="landmarks are a property of rooms"):
        open_dataset(name, tmp_path, landmarks=0.5)


def test_rooms_need_no_folder(tmp_path):
    assert open_dataset("rooms").split == "test"
    assert open_dataset("rooms", split="val", landmarks=0.25).landmarks == 0.25
    with pytest.raises(QvggtError, match=r"leave out .* \(--data-root"):
        open_dataset("rooms", tmp_path)


def test_unknown_dataset_is_refused(tmp_path):
    with pytest.raises(QvggtError, match=r"'imagenet' is not known: choose one of rooms, co3d, re10k"):
        open_dataset("imagenet", tmp_path)
