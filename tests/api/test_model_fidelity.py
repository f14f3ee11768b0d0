"""The public comparison of two models on photographs."""

import json
import weakref
from dataclasses import replace

import numpy as np
import pytest

import qvggt
from qvggt import QvggtError
from qvggt.api import fidelity as model_fidelity
from qvggt.eval.metrics.pose import auc
from qvggt.images.preprocess import load_images
from qvggt.options import QuantizeOptions
from qvggt.quant.scheme import Scheme
from qvggt.weights.pretrained import sample_images

MICRO = "seeded:micro"
KEYS = ("rotation_deg", "translation_deg", "depth_percent", "point_percent")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for bits in (2, 4, 8):
        qvggt.quantize_to("nano", folder / f"nano-{bits}bit", "rtn", QuantizeOptions(Scheme(bits, 64)))
    return folder


@pytest.fixture(scope="module")
def report(checkpoints):
    return qvggt.fidelity("nano", checkpoints / "nano-4bit", sample_images())


def test_figures_are_those_of_the_two_predictions(report, checkpoints):
    predictions = [
        qvggt.reconstruct(model, sample_images(), heads=("camera", "depth", "point"))
        for model in ("nano", checkpoints / "nano-4bit")
    ]
    far = model_fidelity.differences_between(*predictions)
    rotation, translation, depth, points = report.measures
    np.testing.assert_array_equal(rotation.values, far.rotation_deg)
    np.testing.assert_array_equal(translation.values, far.translation_deg)
    np.testing.assert_array_equal(depth.values, 100 * far.depth_rel)
    assert points.mean == 100 * far.point_rel_pooled
    assert (report.model, report.other) == ("nano", str(checkpoints / "nano-4bit"))
    assert report.short_names == ("nano", "nano-4bit")


def test_more_bits_are_closer(report, checkpoints):
    coarse, fine = (qvggt.fidelity("nano", checkpoints / f"nano-{bits}bit", sample_images()) for bits in (2, 8))
    for far, middle, near in zip(coarse.measures, report.measures, fine.measures, strict=True):
        assert far.mean > middle.mean > near.mean > 0


def test_a_model_is_no_distance_from_itself():
    model = qvggt.load("nano")
    report = qvggt.fidelity(model, model, sample_images()[:3])
    assert report.short_names == ("a model in memory",) * 2
    for measure in report.measures:
        assert measure.mean == pytest.approx(0, abs=1e-5)


def test_auc_is_over_all_pairs_with_the_first_models_cameras_as_the_truth(report):
    pairs = model_fidelity.differences_between(report.prediction, report.other_prediction).pairs
    values = report.to_json()
    assert values["pairs"] == report.pairs == len(pairs.joint_deg) == 28
    assert values["auc"] == {f"auc{degrees}": auc(pairs.joint_deg, degrees) for degrees in (30, 15, 5, 3)}
    assert 100 > values["auc"]["auc30"] > values["auc"]["auc3"] > 0


def test_the_first_model_computes_in_float32_whatever_the_second_does(monkeypatch):
    computes = []

    def load(model, device, compute, revision):
        computes.append(compute)
        return qvggt.load(model, device, compute, revision)

    monkeypatch.setattr(model_fidelity, "load", load)
    report = qvggt.fidelity(MICRO, MICRO, sample_images()[:2], compute="bfloat16")
    assert computes == ["float32", "bfloat16"]
    assert all(measure.mean > 0 for measure in report.measures)


def test_json_has_units_in_its_keys_and_no_nan(report):
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (values["frames"], values["height_px"], values["width_px"]) == (8, 84, 112)
    assert tuple(values["means"]) == KEYS
    assert tuple(values["per_frame"]) == ("names", *KEYS)
    assert all(len(column) == 8 for column in values["per_frame"].values())
    assert values["per_frame"]["rotation_deg"][0] is values["per_frame"]["translation_deg"][0] is None
    defined = values["per_frame"]["rotation_deg"][1:]
    assert values["means"]["rotation_deg"] == pytest.approx(sum(defined) / 7)


def test_the_sentence_names_every_head_and_the_worst_image(report):
    words = report.in_words()
    assert words.startswith("nano-4bit against nano on 8 images: cameras are turned by ")
    for measure in report.measures:
        assert f"{measure.mean:.2f}" in words
    worst = report.names[int(np.argmax(report.differences.depth_rel))]
    assert f"most in {worst}" in words
    assert "cannot" not in words


def test_one_image_has_no_cameras_to_compare(checkpoints):
    report = qvggt.fidelity("nano", checkpoints / "nano-4bit", sample_images()[0])
    assert report.to_json()["means"]["rotation_deg"] is report.to_json()["means"]["translation_deg"] is None
    assert report.to_json()["means"]["depth_percent"] > 0
    assert report.to_json()["auc"]["auc30"] is None
    words = report.in_words()
    assert "cameras cannot be compared on one image" in words
    assert "nan" not in words.replace("nano", "")
    assert report.typical_frame == 0


def test_without_motion_there_is_no_direction(report):
    still = replace(report, differences=replace(report.differences, translation_deg=np.full(8, np.nan)))
    assert still.to_json()["means"]["translation_deg"] is None
    assert still.in_words().endswith("translations cannot be compared, for nano sees no motion")
    assert "turned by" in still.in_words()


def test_points_at_the_origin_give_no_percentage(report):
    nowhere = replace(report.differences, point_rel=np.full(8, np.inf), point_rel_pooled=np.inf)
    values = replace(report, differences=nowhere).to_json()
    assert values["means"]["point_percent"] is None
    assert values["per_frame"]["point_percent"] == [None] * 8


def test_the_typical_frame_is_the_median(report):
    order = np.argsort(report.differences.depth_rel)
    assert report.typical_frame == order[3]


def test_the_models_are_never_in_memory_together(monkeypatch):
    loaded, alive = [], []

    def load(*arguments, **options):
        alive.append([model() for model in loaded if model() is not None])
        model = qvggt.load(*arguments, **options)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(model_fidelity, "load", load)
    qvggt.fidelity(MICRO, MICRO, sample_images()[:2])
    assert alive == [[], []]


def test_images_are_read_once(monkeypatch):
    calls = []
    monkeypatch.setattr(model_fidelity, "load_images", lambda *args: calls.append(args) or load_images(*args))
    qvggt.fidelity(MICRO, MICRO, sample_images(), frames=3)
    (call,) = calls
    assert (call[1].size, call[1].patch, call[1].frames) == (56, 14, 3)


def test_progress_never_falls_and_ends_at_one():
    seen = []
    qvggt.fidelity(MICRO, MICRO, sample_images()[:2], on_progress=lambda *step: seen.append(step))
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [stage for stage, _ in seen][:2] == ["reading images", "loading seeded:micro"]


def test_padding_does_not_count(checkpoints):
    tall = [np.ascontiguousarray(np.random.default_rng(k).integers(0, 255, (90, 40, 3), np.uint8)) for k in range(2)]
    report = qvggt.fidelity("nano", checkpoints / "nano-4bit", tall, mode="pad")
    ours, theirs = report.prediction.depth.astype(float), report.other_prediction.depth.astype(float)
    inside = slice(28, 84)  # the photographs are 56 of 112 pixels wide, in the middle
    relative = np.abs(theirs - ours)[..., inside] / ours[..., inside]
    np.testing.assert_allclose(report.differences.depth_rel, relative.mean((1, 2)), rtol=1e-9)


def test_models_of_other_images_are_refused_before_the_work(monkeypatch):
    monkeypatch.setattr(model_fidelity, "load_images", lambda *_: pytest.fail("the images were read"))
    with pytest.raises(QvggtError, match=r"nano takes images of 112 px .* seeded:micro of 56 px .*the same images"):
        qvggt.fidelity("nano", MICRO, sample_images())
    with pytest.raises(QvggtError, match="'nowhere' not found"):
        qvggt.fidelity("nano", "nowhere", sample_images())
    with pytest.raises(QvggtError, match="at least 1"):
        qvggt.fidelity("nano", "nano", sample_images(), dense_frames=0)


@pytest.mark.filterwarnings("error")
def test_an_answer_that_is_not_finite_is_refused():
    broken = qvggt.load(MICRO)
    broken.camera_head.trunk_norm.weight.fill_(float("nan"))
    with pytest.raises(QvggtError, match=r"a model in memory cannot be compared: .* is not finite"):
        qvggt.fidelity(MICRO, broken, sample_images()[:2])
