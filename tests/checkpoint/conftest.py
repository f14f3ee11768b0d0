import pytest
import torch

from quantizing import StateDictSource, rtn, rtn_recipe
from qvggt.checkpoint.write import write_checkpoint
from qvggt.model import VGGT, VGGTConfig
from qvggt.nn.convert import model_layers
from qvggt.options import QuantizeOptions
from qvggt.quant.recipe import Provenance
from qvggt.quant.scheme import Scheme


@pytest.fixture
def config():
    return VGGTConfig.micro()


@pytest.fixture
def weights(config):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(t.shape, generator=generator) * 0.08 for name, t in VGGT(config).state_dict().items()}


@pytest.fixture
def source(weights):
    return StateDictSource(weights)


@pytest.fixture
def recipe(config):
    provenance = Provenance(source="random", sensitivities={"frame/0": 0.125})
    return rtn_recipe(model_layers(config), QuantizeOptions(Scheme(4, 32)), provenance)


@pytest.fixture
def checkpoint(tmp_path, config, source, recipe):
    return write_checkpoint(tmp_path / "checkpoint", config, recipe, rtn(source, config, recipe))
