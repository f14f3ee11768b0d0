"""Every default of a command is a field of an option dataclass, so that Python and the command line cannot disagree."""

import inspect

import pytest

import qvggt
from qvggt.cli import COMMANDS
from qvggt.cli.known import KnownValues
from qvggt.cli.scenes import BatchValues
from qvggt.cli.sensitivity import AttentionValues
from qvggt.cli.viewing import ViewValues
from qvggt.options import (
    DATASET,
    HEADS_FOR,
    METHOD,
    SENSITIVITY_BITS,
    SENSITIVITY_CALIBRATION,
    AppLimits,
    AppOptions,
    BenchOptions,
    CalibrationOptions,
    CompareOptions,
    ExportOptions,
    FormatOptions,
    FrameOptions,
    ImageOptions,
    InferenceOptions,
    LoadOptions,
    OnnxOptions,
    QuantizeOptions,
    RefineOptions,
    RunOptions,
    ScaleOptions,
    Selection,
    SensitivityOptions,
    TurntableOptions,
    ViewOptions,
    WindowOptions,
)
from qvggt.quant.scheme import Scheme

CALIBRATION = {
    "calib": "source",
    "calib_root": "root",
    "calib_scenes": "scenes",
    "calib_frames": "frames",
    "seed": "seed",
}
LOADING = {name: getattr(LoadOptions, name) for name in ("device", "compute", "global_attention")}
IMAGES = {name: getattr(ImageOptions, name) for name in ("mode", "fps", "frames")}
CHOSEN = {"frames": Selection.frames, "scenes": Selection.scenes, "data_root": Selection.root}
MEASURED = {"dataset": DATASET, "split": None, "protocol": (), **CHOSEN}
SCHEME = {"bits": Scheme.bits, "group_size": Scheme.group_size, "zero_points": not Scheme.symmetric}


def fields(owner, *names):
    return {name: getattr(owner, name) for name in names}


def calibration(owner):
    return {name: getattr(owner, field) for name, field in CALIBRATION.items()}


EXPECTED = {
    "reconstruct": {
        **LOADING,
        **IMAGES,
        **fields(ExportOptions, "points_from", "max_points"),
        "drop_percent": ExportOptions.drop_percent,
        "files": ExportOptions.files,
        "heads": (),  # what the points need
        "dense_frames": InferenceOptions.dense_frames,
        "window": InferenceOptions.windows,
        "overlap": WindowOptions.overlap,
        "close_loops": WindowOptions.close_loops,
        "memory": InferenceOptions.memory_bytes,
        "masks": None,
        "known": KnownValues(),
        "refine": False,
        "viewing": ViewValues(),
        "batch": BatchValues(),
    },
    "scale": {
        **fields(ExportOptions, "max_points", "files"),
        **fields(ScaleOptions, "align_world"),
        "images": (),  # those that were reconstructed
    },
    "frames": fields(FrameOptions, "number", "format"),
    "refine": {
        **fields(RefineOptions, "hold_focal", "hold_poses", "max_size", "max_features", "seed"),
        **fields(ExportOptions, "max_points", "files"),
        "images": (),
    },
    "plan": {
        **fields(LoadOptions, "compute", "global_attention"),
        "images": (),
        "frames": None,  # 8 without IMAGES: nothing else counts images before there are any
        **fields(ImageOptions, "mode", "fps"),
        "size": (),  # the model's
        "heads": HEADS_FOR[ExportOptions.points_from],
        "max_points": ExportOptions.max_points,
        "dense_frames": InferenceOptions.dense_frames,
        "window": InferenceOptions.windows,
        "memory": InferenceOptions.memory_bytes,
    },
    "quantize": {
        **SCHEME,
        **calibration(CalibrationOptions),
        **fields(QuantizeOptions, "activation_bits", "average_bits", "max_bytes", "sensitivities", "layers"),
        **fields(QuantizeOptions, "select_by"),
        **fields(QuantizeOptions, "float_type", "tokens", "without", "supervision", "attention_plan"),
        "method": METHOD,
        "scale_rule": Scheme.scale_rule,
        "conv_bits": QuantizeOptions.conv.bits,
        "device": RunOptions.device,
    },
    "evaluate": {
        **MEASURED,
        **fields(RunOptions, "device", "compute", "global_attention"),
        **fields(Selection, "every", "seed", "id_map", "landmarks"),
        **fields(RunOptions, "store", "fresh", "engine", "ray", "workers", "threads"),
        "baseline": None,
        "fidelity_to": None,
        "window": RunOptions.windows,
        "overlap": WindowOptions.overlap,
    },
    "compare": {
        **MEASURED,
        **{name: value for name, value in calibration(CalibrationOptions).items() if name != "seed"},
        **fields(CompareOptions, "methods", "bits", "seeds", "half"),
        **fields(RunOptions, "store", "ray", "workers", "threads", "device", "compute"),
        "group_size": Scheme.group_size,
        "supervision": QuantizeOptions.supervision,
    },
    "fidelity": {
        **IMAGES,
        **fields(RunOptions, "device", "compute"),
        "dense_frames": InferenceOptions.dense_frames,
    },
    "sensitivity": {
        **calibration(SENSITIVITY_CALIBRATION),
        **fields(SensitivityOptions, "granularity", "rounding", "supervision", "by"),
        "bits": SENSITIVITY_BITS,
        "group_size": Scheme.group_size,
        "zero_points": not Scheme.symmetric,
        "attention": AttentionValues(),
        "device": RunOptions.device,
    },
    "bench": {
        **fields(BenchOptions, "global_attention", "against", "autocast", "frames", "repeats", "threads", "device"),
        "compute": BenchOptions.computes,
        "size": BenchOptions.size_px,
    },
    "train": {"device": RunOptions.device},
    "view": {
        **fields(ViewOptions, "host", "port", "max_points"),
        **fields(TurntableOptions, "seconds", "size"),
        "turn": TurntableOptions.turn_deg,
    },
    "app": {
        **fields(AppOptions, "models", "host", "port", "compute", "device"),
        **{f"max_{name}": getattr(AppLimits, name) for name in ("images", "megapixels", "points", "waiting")},
        "max_mb": AppLimits.file_mb,
        "memory": AppLimits.memory_bytes,
    },
    "export-model": fields(OnnxOptions, "size", "heads", "compute", "check_frames"),
    "export": {
        **fields(FormatOptions, "resolution", "shared_camera", "text", "max_points", "points_from", "depth_files"),
        "keep_distortion": FormatOptions.keep_distortion,
        "drop_percent": FormatOptions.drop_percent,
    },
}
OUTPUTS = {"output", "json", "html", "turntable", "plot", "profile", "overwrite", "resume", "revision"}
"""Options that say where results go and which file is read; the rest of what has no counterpart is listed below."""
OF_THE_COMMAND = {
    "train": {"start_from", "minutes", "threads"},
    "inspect": {"verify", "layers"},
    "app": {"password_file", "threads"},
    "doctor": {"quick"},
    "export": {"images", "masks"},
    "reconstruct": {"threads"},
    "quantize": {"threads"},
    "fidelity": {"threads", "card"},
    "push": {"private", "message"},
    "sensitivity": {"threads"},
}


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"demo", "render"}))
def test_defaults_of_a_command_are_those_of_the_options(command):
    found = {name: value for name, value in defaults(COMMANDS[command]).items() if name not in OUTPUTS}
    for name in OF_THE_COMMAND.get(command, ()):
        del found[name]
    assert found == EXPECTED.get(command, {})


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        (qvggt.load, LOADING | {"revision": None, "on_progress": None}),
        (
            qvggt.reconstruct,
            IMAGES
            | fields(InferenceOptions, "dense_frames", "windows", "memory_bytes")
            | {"points_from": ExportOptions.points_from, "heads": None, "written_points": 0, "masks": None}
            | {"on_progress": None, "on_window": None, "folder": None, "output": None},
        ),
        (
            qvggt.fidelity,
            IMAGES
            | fields(InferenceOptions, "dense_frames")
            | fields(RunOptions, "device", "compute")
            | {"revision": None, "on_progress": None},
        ),
        (
            qvggt.quantize,
            {"method": METHOD, "options": None, "revision": None, "on_progress": None, "device": RunOptions.device},
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_defaults_of_a_verb_are_those_of_the_options(verb, expected):
    assert defaults(verb) == expected


def test_sensitivity_and_bench_measure_the_same_from_python_and_the_command_line():
    command = defaults(COMMANDS["sensitivity"])
    assert (command["calib_scenes"], command["calib_frames"]) == (8, 4)
    assert SensitivityOptions().schemes == tuple(
        Scheme(bits, command["group_size"], scale_rule="mse") for bits in command["bits"]
    )
    assert BenchOptions(("nano",)).computes == defaults(COMMANDS["bench"])["compute"] == ("float32", "auto")
