"""Functions on maps and windows that are written with the operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from encoders import ENGINES
from omnivec.ops.base import EngineSettings, Input
from omnivec.ops.maps import by_item


@pytest.mark.parametrize("engine", ENGINES)
def test_windows_return_to_their_items(engine: str) -> None:
    def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
        windows = ops.reshape(get("x"), (-1, 6))
        return {"out": by_item(ops, windows * 2.0, get("x"))}

    compiled = ENGINES[engine](program, [Input("x", np.float32, (None, None, 2, 3))], {}, EngineSettings())
    for shape in ((1, 1), (3, 5), (5, 2)):
        x = np.random.default_rng(0).standard_normal((*shape, 2, 3)).astype(np.float32)
        np.testing.assert_array_equal(compiled.run({"x": x})["out"], 2 * x.reshape(*shape, 6))
