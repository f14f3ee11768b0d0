import pytest
import torch


@pytest.fixture
def threads_restored():
    """Give torch back the number of threads that it had."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
