"""Buckets of relative positions against transformers' formula, and the bias that is made of them on both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_operations import ENGINES, tensor
from transformers.models.t5.modeling_t5 import T5Attention

from omnivec.ops.base import EngineSettings, Input
from omnivec.ops.relative import buckets, relative_bias


def published(distance: torch.Tensor, count: int, furthest: int) -> torch.Tensor:
    return T5Attention._relative_position_bucket(distance, True, count, furthest)


def test_buckets_by_hand() -> None:
    # 8 buckets: 0, 1 alone, then 2 and 3 share what is left up to 8; those of later places count from 4.
    expected = [3, 3, 3, 3, 3, 2, 2, 1, 0, 5, 6, 6, 7, 7, 7, 7, 7]
    assert buckets(8, 8).tolist() == expected


@pytest.mark.parametrize("count", [8, 16, 32, 64, 320])
@pytest.mark.parametrize("furthest", [128, 200, 256, 800])
def test_buckets_are_the_published_ones(count: int, furthest: int) -> None:
    expected = published(torch.arange(-furthest, furthest + 1), count, furthest)
    assert buckets(count, furthest).tolist() == expected.tolist()
    beyond = published(torch.tensor([-100_000, -furthest - 1, furthest + 1, 100_000]), count, furthest)
    edge = buckets(count, furthest)[[0, 0, -1, -1]]
    assert edge.tolist() == beyond.tolist()  # so that a strip of finite length serves every length


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("length", [1, 7, 300])
def test_bias_of_every_pair_of_places(engine: str, precision: Any, length: int) -> None:
    # Values that bfloat16 holds exactly: a wrong bucket cannot hide in its rounding.
    table = np.arange(32 * 3).reshape(32, 3).astype(np.float32)
    place = torch.arange(length)
    expected = table[published(place[None, :] - place[:, None], 32, 128).numpy()].transpose(2, 0, 1)[None]

    def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
        return {"bias": relative_bias(ops, p["table"], get("x"), 32, 128)}

    inputs = [Input("x", np.float32, (None, None, 2))]
    run = ENGINES[engine](program, inputs, {"table": tensor(table)}, EngineSettings(precision)).run
    got = run({"x": np.zeros((2, length, 2), np.float32)})["bias"]
    assert np.array_equal(got, expected)
