"""Weights that are NaN are refused, by name, and infinite ones are left to the vectors."""

from __future__ import annotations

import numpy as np
import pytest

from omnivec.errors import WeightsError
from omnivec.ops import openvino as openvino_engine
from omnivec.ops.base import EngineSettings, Input
from omnivec.ops.damage import refuse_nan
from omnivec.ops.quantized import quantize
from omnivec.weights import Tensor


def bfloat16(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


STORED = {
    "F64": lambda values: values.astype(np.float64),
    "F32": lambda values: values.astype(np.float32),
    "F16": lambda values: values.astype(np.float16),
    "BF16": bfloat16,
}


@pytest.mark.parametrize("dtype", STORED)
def test_values_that_are_nan_are_counted(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnivec.ops.damage._BLOCK", 5)
    values = np.array([[0.0, -0.0, np.inf, -np.inf], [1.0, -2.0, 3.0, -4.0]])
    refuse_nan("a", Tensor("a", dtype, (2, 4), STORED[dtype](values)))
    values[0, 0], values[1, 3] = np.nan, -np.nan
    with pytest.raises(WeightsError, match=r"weight 'a': 2 of 8 values are NaN"):
        refuse_nan("a", Tensor("a", dtype, (2, 4), STORED[dtype](values)))


def test_weights_without_nan_pass() -> None:
    refuse_nan("ids", Tensor("ids", "I64", (2,), np.array([1, 2])))
    refuse_nan("empty", Tensor("empty", "F32", (0, 3), np.zeros((0, 3), np.float32)))
    refuse_nan("rounded", quantize(Tensor("rounded", "F32", (4, 8), np.ones((4, 8), np.float32))))


def test_a_relu_does_not_hide_them() -> None:
    """OpenVINO's ReLU makes zero of NaN, so that the result would be finite, and wrong."""
    weight = Tensor("w", "F32", (2, 2), np.full((2, 2), np.nan, np.float32))
    with pytest.raises(WeightsError, match="weight 'w': 4 of 4 values are NaN"):
        openvino_engine.compile_program(
            lambda ops, get, p: {"out": ops.relu(get("x") * p["w"])},
            [Input("x", np.float32, (None, 2))],
            {"w": weight},
            EngineSettings(),
        )
