import pytest
import torch

from qvggt.calibration.statistics import InputStatistics, observe, pooled
from qvggt.calibration.units import advance, model_units, start
from qvggt.options import TOKEN_CLASSES, parse_token_classes
from qvggt.types import QvggtError

SPECIAL = 5


def inputs_by_class(model, unit, states):
    """Return layer -> class -> tokens [N, in], recorded by hooks and cut up frame by frame."""
    recorded = {layer: {name: [] for name in TOKEN_CLASSES} for layer in unit.linear}
    for state in states:
        batch, frames, _, height, width = state.images.shape
        tokens = SPECIAL + (height // 14) * (width // 14)
        calls = []
        handles = [
            model.get_submodule(layer).register_forward_pre_hook(
                lambda _, inputs, layer=layer, calls=calls: calls.append((layer, inputs[0].clone()))
            )
            for layer in unit.linear
        ]
        advance(model, unit, state)
        for handle in handles:
            handle.remove()
        for layer, x in calls:
            if unit.kind == "camera":
                recorded[layer]["camera"].append(x.reshape(-1, x.shape[-1]))
                continue
            rows = x.reshape(batch * frames * tokens, -1)
            place = torch.arange(len(rows)) % tokens
            camera = -1 if unit.kind == "patch_embed" else 0  # the class token of the patch embedding is a register
            recorded[layer]["camera"].append(rows[place == camera])
            recorded[layer]["register"].append(rows[(place != camera) & (place < SPECIAL)])
            recorded[layer]["patch"].append(rows[place >= SPECIAL])
    return {layer: {name: torch.cat(rows) for name, rows in parts.items() if rows} for layer, parts in recorded.items()}


@pytest.fixture(scope="module")
def observed(micro, batches):
    """Return (unit, statistics, directly recorded inputs) for every unit that has linear layers."""
    states, found = [start(batch.images) for batch in batches], []
    with torch.inference_mode():
        for unit in model_units(micro):
            direct = inputs_by_class(micro, unit, states)
            statistics = observe(micro, unit, states)
            if unit.linear:
                found.append((unit, statistics, direct))
            states = [advance(micro, unit, state) for state in states]
    return found


def assert_describes(part: InputStatistics, rows: torch.Tensor):
    rows = rows.double()
    assert part.count == len(rows)
    if len(rows) == 0:
        assert not part.absolute.any()
        assert not part.gram.any()
        return
    size = rows.square().mean().sqrt()
    assert torch.allclose(part.absolute.double(), rows.abs().sum(0), rtol=1e-4, atol=1e-4 * size)
    assert torch.equal(part.largest, rows.abs().amax(0).float())
    gram = rows.T @ rows
    assert (part.gram.double() - gram).abs().max() <= 1e-5 * gram.abs().max()
    assert torch.allclose(part.mean_abs.double(), rows.abs().mean(0), rtol=1e-4, atol=1e-4 * size)
    assert torch.allclose(part.mean_square.double(), rows.square().mean(0), rtol=1e-3, atol=1e-5 * size**2)


def test_statistics_are_those_of_the_tokens_of_each_class(observed):
    for unit, statistics, direct in observed:
        assert set(statistics) == set(unit.linear)
        for layer, parts in statistics.items():
            for name in TOKEN_CLASSES:
                empty = torch.zeros(0, parts[name].absolute.shape[0])
                assert_describes(parts[name], direct[layer].get(name, empty))


def test_classes_add_up_to_all_tokens(observed):
    for _, statistics, direct in observed:
        for layer, parts in statistics.items():
            assert_describes(pooled(parts), torch.cat(list(direct[layer].values())))
            assert_describes(
                pooled(parts, ("patch", "register")),
                torch.cat([direct[layer][name] for name in ("register", "patch") if name in direct[layer]])
                if "patch" in direct[layer]
                else direct[layer]["camera"],
            )


def test_gram_matrices_are_symmetric_and_positive_semidefinite(observed):
    for _, statistics, _ in observed:
        for parts in statistics.values():
            gram = pooled(parts).gram.double()
            assert (gram - gram.T).abs().max() <= 1e-5 * gram.abs().max()
            values = torch.linalg.eigvalsh((gram + gram.T) / 2)
            assert values[0] >= -1e-5 * values[-1]


def test_the_camera_head_sees_camera_tokens_whatever_is_asked_for(observed):
    unit, statistics, direct = observed[-1]
    assert unit.id == "camera"
    for layer, parts in statistics.items():
        assert parts["patch"].count == parts["register"].count == 0
        assert_describes(pooled(parts, ("patch",)), direct[layer]["camera"])


def test_every_frame_has_its_camera_token_and_registers(observed, batches):
    frames = sum(batch.images.shape[0] * batch.images.shape[1] for batch in batches)
    for unit, statistics, _ in observed:
        for parts in statistics.values():
            if unit.kind in ("frame", "global"):
                assert (parts["camera"].count, parts["register"].count) == (frames, 4 * frames)
            elif unit.kind == "patch_embed":
                assert (parts["camera"].count, parts["register"].count) == (0, 5 * frames)


def test_observing_leaves_nothing_behind(micro, batches):
    state = start(batches[0].images)
    with torch.inference_mode():
        for unit in model_units(micro):
            before = [tensor.clone() for tensor in state.tensors()]
            observe(micro, unit, [state])
            assert all(torch.equal(one, other) for one, other in zip(before, state.tensors(), strict=True))
            state = advance(micro, unit, state)
    assert all(not module._forward_pre_hooks for module in micro.modules())


def test_hooks_are_gone_after_an_error(model, batches):
    unit = next(unit for unit in model_units(model) if unit.id == "patch_embed/0")
    with pytest.raises(RuntimeError):
        observe(model, unit, [start(batches[0].images)])  # the state before another unit
    assert all(not module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_with_the_layers_name(model, batches, value):
    units = model_units(model)
    state = advance(model, units[0], start(batches[0].images))
    model.get_parameter("aggregator.patch_embed.blocks.0.norm1.bias").data[3] = value
    with pytest.raises(QvggtError, match=r"blocks\.0\.attn\.qkv sees NaN or infinity"):
        observe(model, units[1], [state])


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("all", TOKEN_CLASSES),
        ("patch", ("patch",)),
        ("patch+camera", ("camera", "patch")),
        ("camera+register+patch", TOKEN_CLASSES),
        ("patch+patch", ("patch",)),
    ],
)
def test_token_classes_of_a_setting(text, classes):
    assert parse_token_classes(text) == classes


@pytest.mark.parametrize("text", ["", "Patch", "patch,camera", "patch+", "camera+tokens", "patch + camera"])
def test_token_classes_that_do_not_exist_are_refused(text):
    with pytest.raises(QvggtError, match="camera, register, patch"):
        parse_token_classes(text)
