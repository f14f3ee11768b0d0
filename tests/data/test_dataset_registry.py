import pytest

from qvggt.data.registry import DATASETS, open_dataset
from qvggt.eval.protocols import PROTOCOLS
from qvggt.types import QvggtError


@pytest.mark.parametrize("name", DATASETS)
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


def test_unknown_dataset_is_refused(tmp_path):
    with pytest.raises(QvggtError, match=r"'imagenet' is not known: choose one of co3d, re10k"):
        open_dataset("imagenet", tmp_path)
