"""The method keeps the contract of methods of qvggt."""

from in_turns import InTurns

from qvggt.methods.testing import check_method


def test_in_turns_keeps_the_contract():
    """Quantize a small model, interrupt and resume, save and load."""
    check_method(InTurns)
