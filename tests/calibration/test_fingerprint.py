import pytest
import torch

from qvggt.calibration.fingerprint import fingerprint

BASE = torch.arange(6.0)


def test_equal_things_have_one_fingerprint():
    assert fingerprint([BASE, BASE[:0]], "a", 1) == fingerprint([BASE.clone(), torch.empty(0)], "a", 1)
    assert fingerprint([BASE.view(2, 3).T]) == fingerprint([BASE.view(2, 3).T.contiguous()])


@pytest.mark.parametrize(
    ("tensors", "facts"),
    [
        ([BASE + 1], ("a",)),
        ([BASE.view(2, 3)], ("a",)),
        ([BASE.half()], ("a",)),
        ([BASE, BASE], ("a",)),
        ([BASE], ("b",)),
        ([BASE], ("a", None)),
    ],
    ids=["values", "shape", "type", "number", "fact", "more facts"],
)
def test_unlike_things_have_others(tensors, facts):
    assert fingerprint(tensors, *facts) != fingerprint([BASE], "a")
