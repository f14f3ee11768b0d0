import numpy as np
import torch
from token_norms import token_norms

from qvggt.model import VGGT, VGGTConfig
from qvggt.train.optim import initialize
from qvggt.types import Scene


def test_token_norms_show_outlying_registers_in_the_ratio():
    model = VGGT(VGGTConfig.micro())
    images = np.random.default_rng(0).random((2, 3, 56, 56), dtype=np.float32)
    ratios = []
    for register_norm in (1.0, 40.0):
        initialize(model, seed=0, camera_norm=1.0, register_norm=register_norm)
        rows = token_norms(model.eval(), [Scene("a", images), Scene("b", images)])
        assert [row.layer for row in rows] == [0, 1, 2, 3]
        ratios.append(rows[0].ratio)
    assert ratios[1] > 5 * ratios[0]
    kept = model.aggregator(torch.from_numpy(images)[None], {0})[0]
    assert rows[0].camera == np.float32(kept[0, :, 0, 64:].norm(dim=-1).mean().item())
