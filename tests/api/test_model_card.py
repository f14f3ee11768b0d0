import pytest

import qvggt
from qvggt.api.model_card import describe, describe_loaded
from qvggt.checkpoint.open import open_model
from qvggt.options import QuantizeOptions
from qvggt.quant.scheme import Scheme
from qvggt.weights.open import load_float, open_weights


@pytest.fixture
def checkpoint(tmp_path):
    qvggt.quantize_to("seeded:micro", tmp_path / "a", "rtn", QuantizeOptions(Scheme(4, 32)))
    return tmp_path / "a"


def test_a_checkpoint_says_where_it_came_from(checkpoint):
    opened = open_model(checkpoint)
    card, config = describe(opened), opened.config
    assert (card.name, card.method, config.image_size) == (str(checkpoint), "rtn", 56)
    assert card.source.startswith("seeded:micro")
    assert card.checkpoint_bytes == sum(path.stat().st_size for path in checkpoint.glob("[!.R]*"))


def test_the_hash_follows_the_weights_and_nothing_else(checkpoint, tmp_path):
    qvggt.quantize_to("seeded:micro", tmp_path / "b", "rtn", QuantizeOptions(Scheme(4, 32)))
    qvggt.quantize_to("seeded:micro", tmp_path / "c", "rtn", QuantizeOptions(Scheme(3, 32)))
    first, same, other = (describe(open_model(tmp_path / name)).hash for name in "abc")
    assert first == same != other


def test_a_float_model_has_its_type_s_bits_and_its_files_hash(tmp_path):
    from safetensors.torch import save_file

    weights = open_weights("seeded:micro")
    path = tmp_path / "micro.safetensors"
    save_file({name: weights.source.tensor(name).half() for name in weights.source.names()}, path)
    card = describe(open_model(path))
    assert (card.method, card.average_bits, card.checkpoint_bytes) == ("float", 16, path.stat().st_size)
    assert card.hash == open_weights(path).hash()


def test_stand_in_weights_have_a_rule_and_no_file():
    card = describe(open_model("seeded:micro"))
    assert (card.hash, card.checkpoint_bytes, card.average_bits) == ("seeded:micro", None, 32)


def test_a_model_in_memory_is_known_by_its_tensors(checkpoint):
    float_model = load_float(open_weights("seeded:micro"))
    before = describe_loaded(float_model)
    assert (before.method, before.average_bits) == ("float", 32)
    float_model.camera_head.trunk_norm.weight.mul_(2)
    assert describe_loaded(float_model).hash != before.hash
    merged = describe_loaded(qvggt.load(checkpoint, global_attention="merged"))
    halved = describe_loaded(qvggt.load(checkpoint, compute="bfloat16"))
    packed = describe_loaded(qvggt.load(checkpoint))
    assert packed.hash == describe_loaded(qvggt.load(checkpoint)).hash
    assert len({packed.hash, merged.hash, halved.hash}) == 3  # results of one are not taken for another's
    assert packed.method == "rtn"
    assert packed.average_bits is not None
    assert packed.average_bits < 16
