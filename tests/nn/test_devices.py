"""What has to hold on devices that are not here: their tensors are replaced by ones without values."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from quantizing import rtn_recipe
from qvggt.backends import pick
from qvggt.nn.convert import model_layers, shell
from qvggt.options import QuantizeOptions
from qvggt.quant.scheme import Scheme


class NoFloat64(TorchDispatchMode):
    """Refuses float64 anywhere but on the CPU, as Apple's GPUs do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != "cpu":
                assert leaf.dtype != torch.float64, func
        return result


@pytest.mark.parametrize("scheme", [Scheme(4, 32), Scheme(3, -1, symmetric=False), Scheme(4, 32, rotation=True)])
def test_a_packed_model_computes_without_float64(config, images, scheme):
    model = shell(config, rtn_recipe(model_layers(config), QuantizeOptions(scheme)), pick("mps"))
    with torch.inference_mode(), NoFloat64():
        answers = model(images.to("meta"))
    assert answers["depth"].shape == (1, 2, 28, 42, 1)
