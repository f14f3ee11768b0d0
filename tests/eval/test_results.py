"""Results of scenes as JSON."""

import json
import math

from qvggt.eval.results import SceneResult


def test_scene_result_survives_json_with_equal_bits():
    before = SceneResult(
        "s",
        "g",
        ("pose-standard",),
        3,
        (0.1, math.nan),
        (1 / 3, math.nan),
        {"absrel": math.inf, "x": math.nan},
        ("why",),
        ((1 / 3, math.nan), (math.inf, 0.1)),
    )
    text = json.dumps(before.to_json(), allow_nan=False)
    after = SceneResult.from_json(json.loads(text))
    assert repr(after) == repr(before)
    assert json.dumps(after.to_json()) == text
