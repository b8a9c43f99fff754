"""ViT, DeiT, MAE, MSN, I-JEPA and DINO against transformers, every hidden state, both engines, many image sizes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders import ENGINES, changed, with_operation
from omnivec.families import vit
from omnivec.ops import grid
from omnivec.ops.base import EngineSettings, Ops, Params, Value
from omnivec.testing import check_close, check_rejected
from vits import KINDS, SMALL, Forward, compiled, expected, made, pictures, states

SIZES = [(40, 40), (24, 24), (64, 48), (44, 90), (8, 200)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vit")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("kind", KINDS)
def test_every_hidden_state_equals_transformers(root: Path, kind: str, size: tuple[int, int]) -> None:
    folder, model = made(kind, root)
    for count, engine in enumerate(ENGINES, 1):
        pixels = pictures(size, count, seed=size[1])
        reference, got = expected(KINDS[kind], model, pixels), states(folder, engine, pixels)
        assert len(got) == len(reference) == SMALL["num_hidden_layers"] + 2
        for i, (a, b) in enumerate(zip(got, reference, strict=True)):
            check_close(a, b, f"{engine}, hidden state {i}")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_picture_does_not_depend_on_its_batch(root: Path, engine: str) -> None:
    folder, _ = made("dinov2, registers", root)
    pixels, one = pictures((48, 32), 5), compiled(folder, engine, (48, 32))
    whole = one.run({"pixels": pixels})["4"]
    for i, picture in enumerate(pixels):
        check_close(one.run({"pixels": picture[None]})["4"][0], whole[i], f"picture {i} by itself")


def with_function(module: Any, name: str, wrong: Any) -> Forward:
    """The family's forward with one function of a module replaced."""

    def forward(ops: Ops, p: Params, config: Any, batch: Any) -> Value:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, wrong)
            return vit.forward(ops, p, config, batch)

    return forward


def turned(ops: Ops, p: Params, config: Any, batch: Any) -> Value:
    return vit.forward(ops, p, config, SimpleNamespace(pixels=batch.pixels, size=batch.size[::-1]))


def opened_by_the_gate(ops: Ops, p: Params, config: Any, x: Value) -> Value:
    y = ops.silu(ops.linear(x, p["intermediate.dense"])) * ops.linear(x, p["gate.dense"])
    return ops.linear(y, p["output.dense"])


def aligned(ops: Ops, table: Value, old: Any, new: Any, antialias: bool) -> Value:
    """Corner on corner, as older interpolations have it."""

    def linear(old: int, new: int) -> np.ndarray:
        place = np.linspace(0, old - 1, new, dtype=np.float32)[:, None]
        return np.maximum(0, 1 - abs(place - np.arange(old, dtype=np.float32))).astype(np.float32)

    x = ops.reshape(table, (1, old[0], -1))
    x = ops.reshape(ops.mix_tokens(x, linear(old[0], new[0])), (new[0], old[1], -1))
    return ops.reshape(ops.mix_tokens(x, linear(old[1], new[1])), (1, new[0] * new[1], -1))


def shifted(ops: Ops, table: Value, *rest: Any) -> Value:
    """The positions of the patches one place on."""
    return grid.resampled(ops, ops.concat([table[:, 1:], table[:, :1]], 1), *rest)


WRONG: dict[str, tuple[str, Forward]] = {
    "tanh for erf GELU": ("vit", changed(vit, hidden_act="gelu_new")),
    "epsilon of 1e-3": ("vit", changed(vit, layer_norm_eps=1e-3)),
    "half the heads": ("vit", changed(vit, num_attention_heads=2)),
    "a layer left out": ("vit", changed(vit, num_hidden_layers=2)),
    "scale left out": (
        "vit",
        with_operation(
            vit, "attention", lambda right, q, k, v, bias, scale, *rest: right(q, k, v, bias, 1.0)
        ),
    ),
    "CLS behind the patches": (
        "vit",
        with_operation(vit, "concat", lambda right, xs, axis: right([*xs[1:], xs[0]], axis)),
    ),
    "height and width of the grid exchanged": ("vit", turned),
    "antialiased positions": ("dinov2", changed(vit, antialias=True)),
    "positions not antialiased": ("dinov2, registers", changed(vit, antialias=False)),
    "positions laid corner on corner": ("vit", with_function(grid, "resampled", aligned)),
    "positions shifted": ("vit", with_function(vit, "grid", SimpleNamespace(resampled=shifted))),
    "no layer scale": ("dinov2", with_function(vit, "_scaled", lambda p, name, y: y)),
    "the gate exchanged with what it opens": (
        "dinov2, gated",
        with_function(vit, "_feed_forward", opened_by_the_gate),
    ),
    "registers before CLS": ("dinov2, registers", changed(vit, tokens=(vit._REGISTERS, vit._CLS))),
    "no rotary positions": ("dinov3", with_operation(vit, "rotary", lambda right, x, cos, sin: x)),
    "another base of the rotary positions": ("dinov3", changed(vit, rope_theta=10_000.0)),
    "registers turned as if they were patches": (
        "dinov3",
        with_operation(vit, "rotary", lambda right, x, *turn: right(x, *(t.roll(-1, 0) for t in turn))),
    ),
    "height and width of rotary positions exchanged": ("dinov3", turned),
}


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_told_apart(root: Path, variant: str) -> None:
    kind, forward = WRONG[variant]
    folder, model = made(kind, root)
    pixels = pictures((64, 48))
    got, reference = (states(folder, "torch", pixels, forward)[-1], expected(KINDS[kind], model, pixels)[-1])
    check_rejected(got, reference, variant)


# Cosines of centred vectors; torch rounds what is passed from layer to layer too.
NEAR = {"openvino": 0.999, "torch": 0.997}


@pytest.mark.parametrize("kind", ["vit", "dinov2, registers, gated", "dinov3"])
@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(tmp_path: Path, engine: str, kind: str) -> None:
    # As in trained models, attention sees several tokens: at twice the deviation it would see one, or its neighbour.
    model = KINDS[kind].make(tmp_path, gain=1.0)
    pixels = pictures((48, 64), 12)
    reference = expected(KINDS[kind], model, pixels)[-1]
    half = states(tmp_path, engine, pixels, settings=EngineSettings(precision="bfloat16"))[-1]
    for pool in (lambda x: x[:, 0], lambda x: x[:, 5:].mean(1)):
        a, b = (pool(x) - pool(x).mean(0) for x in (half, reference))
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > NEAR[engine]


def test_positions_are_interpolated_once_and_rotations_fused(root: Path) -> None:
    """The compiled graph: no product but those of the layers, and OpenVINO's own rotation."""
    for kind, rotations in (("vit", 0), ("dinov3", 2)):
        model: Any = compiled(made(kind, root)[0], "openvino", (64, 48))
        nodes = model._compiled.get_runtime_model().get_ops()
        kinds = Counter(node.get_rt_info()["layerType"].astype(str) for node in nodes)
        assert kinds["FullyConnected"] == 6 * SMALL["num_hidden_layers"]
        assert kinds["MatMul"] == 0
        assert kinds["RoPE"] == rotations * SMALL["num_hidden_layers"]


@settings(max_examples=60, deadline=None)
@given(old=st.integers(1, 40), new=st.integers(1, 40), antialias=st.booleans())
def test_bicubic_shares_are_those_of_torch(old: int, new: int, antialias: bool) -> None:
    places = torch.eye(old)[None, :, :, None].repeat(1, 1, 1, 5)
    stretched = F.interpolate(places, (new, 5), mode="bicubic", align_corners=False, antialias=antialias)
    check_close(grid.bicubic(old, new, antialias), stretched[0, :, :, 0].T.numpy(), f"{old} to {new}")


def test_bicubic_shares_by_hand() -> None:
    """Between two places the shares are those of Keys' kernel at 1.25, 0.25, 0.75 and 1.75."""
    shares = grid.bicubic(8, 4, False)[1]  # its centre is 2.5, half way between 2 and 3
    np.testing.assert_allclose(shares, [0, -0.09375, 0.59375, 0.59375, -0.09375, 0, 0, 0], atol=1e-7)
    edge = grid.bicubic(2, 4, False)[0]  # its centre is -0.25: what lies beyond the edge is the edge's
    np.testing.assert_allclose(edge, [1 + 0.10546875, -0.10546875], atol=1e-7)


def test_rotations_by_hand() -> None:
    cos, sin = grid.rotation((1, 2), prefix=1, theta=100.0, width=8)
    assert cos.shape == (3, 8)
    np.testing.assert_array_equal((cos[0], sin[0]), (np.ones(8), np.zeros(8)))
    # One row: its centre is 0. Two columns: -0.5 and 0.5, turned by pi and by a tenth of it.
    angles = np.pi * np.array([0, 0, 1, 0.1])
    np.testing.assert_allclose(cos[2], np.cos([*angles, *angles]), atol=1e-6)
    np.testing.assert_allclose(sin[1], np.sin([*-angles, *-angles]), atol=1e-6)


def test_what_stands_before_the_patches_is_counted() -> None:
    config = vit.Config(64, 3, 4, tokens=(vit._CLS, vit._REGISTERS), num_register_tokens=4)
    assert config.prefix == 5
    assert vit.Config(64, 3, 4).prefix == 1
    assert dataclasses.replace(config, tokens=()).prefix == 0
