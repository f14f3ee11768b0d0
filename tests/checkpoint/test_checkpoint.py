import errno
import json

import pytest
import torch

from quantizing import rtn, rtn_recipe
from qvggt.checkpoint.folder import Checkpoint, is_checkpoint, open_checkpoint
from qvggt.checkpoint.report import inspect_model
from qvggt.checkpoint.write import save_checkpoint, write_checkpoint
from qvggt.model import VGGT
from qvggt.nn.convert import convert, model_layers
from qvggt.options import QuantizeOptions
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError
from qvggt.weights.tensor_file import read_header

FILES = ["config.json", "model.safetensors", "recipe.json"]


@pytest.fixture
def images():
    return torch.rand(1, 2, 3, 28, 42, generator=torch.Generator().manual_seed(1))


def flip(path, offset, bit=0):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_the_folder_holds_four_files_and_nothing_beside_it(checkpoint):
    assert sorted(path.name for path in checkpoint.iterdir()) == [".qvggt-manifest.json", "README.md", *FILES]
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]
    assert is_checkpoint(checkpoint)
    assert not is_checkpoint(checkpoint.parent)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("float_type", ["float16", "bfloat16", "float32"])
@torch.inference_mode()
def test_reading_gives_the_model_that_conversion_in_memory_gives(
    tmp_path, config, source, weights, images, symmetric, float_type
):
    options = QuantizeOptions(Scheme(3, 32, symmetric), layers=("aa", "conv2d"), float_type=float_type)
    recipe = rtn_recipe(model_layers(config), options)
    write_checkpoint(tmp_path / "x", config, recipe, rtn(source, config, recipe))
    model = open_checkpoint(tmp_path / "x").load()
    expected = VGGT(config)
    expected.load_state_dict(weights)
    expected = convert(expected, recipe)(images)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, expected[name]) for name, value in model(images).items())


def test_saving_what_was_read_gives_the_same_bytes(checkpoint, tmp_path):
    save_checkpoint(open_checkpoint(checkpoint).load(), tmp_path / "again")
    assert all((checkpoint / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in FILES)


def test_a_float_model_cannot_be_saved(config, tmp_path):
    with pytest.raises(QvggtError, match="not quantized"):
        save_checkpoint(VGGT(config), tmp_path / "x")


@torch.inference_mode()
def test_a_model_can_compute_in_half_precision(checkpoint, images):
    exact = open_checkpoint(checkpoint).load()(images)["pose_enc"]
    half = open_checkpoint(checkpoint).load(dtype=torch.bfloat16)(images.bfloat16())["pose_enc"]
    assert (half.float() - exact).norm() < 0.3 * exact.norm()


def test_an_intact_checkpoint_is_verified_and_its_tensors_are_counted(checkpoint):
    assert open_checkpoint(checkpoint).verify() == len(read_header(checkpoint / "model.safetensors").entries)


@pytest.mark.parametrize("name", ["camera_head.embed_pose.weight_packed", "aggregator.camera_token"])
def test_a_flipped_byte_is_found_and_its_tensor_named(checkpoint, name):
    path = checkpoint / "model.safetensors"
    flip(path, read_header(path).entries[name].end - 1)
    for check in (Checkpoint.verify, Checkpoint.load):
        with pytest.raises(QvggtError, match=rf"1 of \d+ tensors in .* damaged \({name}\)"):
            check(open_checkpoint(checkpoint))
    open_checkpoint(checkpoint).load(check_hashes=False)


def test_any_flipped_bit_of_the_header_is_found_without_hashing_tensors(checkpoint):
    path = checkpoint / "model.safetensors"
    intact = path.read_bytes()
    length = int.from_bytes(intact[:8], "little")
    for offset in (0, 3, 7, 8, 40, length // 2, length + 7):
        flip(path, offset, 1)
        with pytest.raises(QvggtError) as caught:
            open_checkpoint(checkpoint).load(check_hashes=False)
        assert "\n" not in str(caught.value)
        path.write_bytes(intact)


@pytest.mark.parametrize("name", ["config.json", "recipe.json"])
def test_any_flipped_bit_of_the_small_files_is_found(checkpoint, name):
    intact = (checkpoint / name).read_bytes()
    for offset in range(0, len(intact), len(intact) // 12):
        flip(checkpoint / name, offset)
        with pytest.raises(QvggtError):
            open_checkpoint(checkpoint).load(check_hashes=False)
        (checkpoint / name).write_bytes(intact)


DAMAGE = {
    "tensors cut to nothing": ("model.safetensors", lambda data: b"", "truncated"),
    "tensors cut in the header": ("model.safetensors", lambda data: data[:300], "truncated"),
    "tensors cut at the end": ("model.safetensors", lambda data: data[:-1], "truncated"),
    "bytes to spare": ("model.safetensors", lambda data: data + b"x", "bytes to spare"),
    **{
        f"{name} {what}": (name, lambda data, text=text: text, reason)
        for name in ("config.json", "recipe.json")
        for what, text, reason in (
            ("empty", b"", "empty"), ("no JSON", b"{", "damaged"), ("a list", b"[1]", "format|object"),
            ("no text", b"\x00\xff", "not a text"), ("nested", b"[" * 100_000, "nested"),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_named_with_the_reason(checkpoint, damage):
    name, change, reason = damage
    path = checkpoint / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(QvggtError, match=rf"{name}.*({reason})"):
        open_checkpoint(checkpoint)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(QvggtError, match=f"no file .*{name}"):
        open_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": 2}, "version 2.* version 1"),
        ({"vggt": {"register_tokens": 3}}, r"register_token is float16 \[1, 2, 4, 64\] instead of .* \[1, 2, 3, 64\]"),
        ({"vggt": {"vit_depth": 2}}, "1 blocks.*vit_depth.* 2"),
        ({"vggt": {"depth": 2000}}, "4 blocks.*depth.* 2000"),
        ({"vggt": {"patch_size": 15}}, "multiple of patch_size"),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_is_refused_before_anything_is_built(checkpoint, change, reason, monkeypatch):
    def update(values):
        values.update(change if "vggt" not in change else {"vggt": values["vggt"] | change["vggt"]})

    edit(checkpoint / "config.json", update)
    if "depth" in change.get("vggt", {}):
        monkeypatch.setattr(VGGT, "__init__", None)
    with pytest.raises(QvggtError, match=reason):
        open_checkpoint(checkpoint)


def test_a_recipe_of_another_version_is_refused(checkpoint):
    edit(checkpoint / "recipe.json", lambda values: values.update(version=7))
    with pytest.raises(QvggtError, match="version 7"):
        open_checkpoint(checkpoint)


def test_existing_output_is_kept_unless_overwriting(checkpoint, config, source, recipe):
    before = (checkpoint / "recipe.json").read_bytes()
    with pytest.raises(QvggtError, match="exists already: choose another folder, or allow overwriting"):
        write_checkpoint(checkpoint, config, recipe, rtn(source, config, recipe))
    assert (checkpoint / "recipe.json").read_bytes() == before
    other = rtn_recipe(model_layers(config), QuantizeOptions(Scheme(8)))
    write_checkpoint(checkpoint, config, other, rtn(source, config, other), overwrite=True)
    assert inspect_model(open_checkpoint(checkpoint)).average_bits > 8
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "no space"), QvggtError("x")])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_failure_half_way_leaves_what_was_there(checkpoint, config, source, recipe, error, overwrite):
    def interrupted():
        stream = rtn(source, config, recipe)
        for _ in range(20):
            yield next(stream)
        raise error

    folder = checkpoint if overwrite else checkpoint.parent / "new" / "deep"
    expected = KeyboardInterrupt if error is KeyboardInterrupt else QvggtError
    with pytest.raises(expected):
        write_checkpoint(folder, config, recipe, interrupted(), overwrite)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]
    open_checkpoint(checkpoint).verify()


def test_tensors_that_are_not_the_recipes_are_refused(tmp_path, config, source, recipe):
    tensors = list(rtn(source, config, recipe))
    for wrong, message in (
        (tensors[1:], "1 tensors were not written"),
        ([*tensors, tensors[0]], "was written before"),
        ([("a.b", torch.zeros(1))], "not in the file's layout"),
        ([(tensors[0][0], tensors[0][1].double())], "expected"),
    ):
        with pytest.raises(ValueError, match=message):
            write_checkpoint(tmp_path / "x", config, recipe, wrong)
    assert not list(tmp_path.iterdir())
