"""A small part of the fuzz: every reader refuses damaged files in one sentence, or reads them."""

import logging

import pytest
from fuzz_inputs import READERS
from fuzz_readers import OTHER, REFUSED, SAME, outcomes

SLOW = (
    "4-bit checkpoint",
    "weights, .safetensors",
    "weights, shards",
    "weights, .pt",
    "index of rooms",
    "training run",
)


@pytest.fixture(autouse=True)
def logging_restored():
    """Undo what the fuzz does to logging."""
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", READERS)
def test_outcomes_of_damaged_files_are_never_faults(name):
    found = [item for item in outcomes(name, range(4 if name in SLOW else 11), seed=1) if item[1]]
    assert {outcome for _, outcome, _ in found} <= {REFUSED, SAME, OTHER}, found
