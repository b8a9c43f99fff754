"""Rotary positions: their frequencies, with the published ways to scale them to longer texts, and tables of angles.

Su et al. 2021, arXiv:2104.09864; YaRN: Peng et al. 2023, arXiv:2309.00071. Frequencies are float32 in the order of
operations that models were trained with: at position 30,000 a difference in rounding changes angles noticeably.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UnsupportedModel
from omnivec.ops.base import Ops, Value
from omnivec.validation.typed import Among, Base, Positions, Positive

Floats = NDArray[np.float32]

# The settings that each published rope_type depends on beside its base. "dynamic" scales only texts longer than the
# model's own maximum, which are never run here.
TYPES = {
    "default": (),
    "dynamic": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        *("factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow"),
        *("mscale", "mscale_all_dim", "truncate"),
    ),
}


@dataclass(frozen=True)
class Published:
    """The keys of rope_scaling or rope_parameters in a config.json that are read."""

    rope_type: Annotated[str, Among(TYPES)] | None = None
    type: Annotated[str, Among(TYPES)] | None = None
    rope_theta: Base | None = None
    factor: Positive | None = None
    low_freq_factor: Positive | None = None
    high_freq_factor: Positive | None = None
    original_max_position_embeddings: Positions | None = None
    attention_factor: Positive | None = None
    beta_fast: Positive | None = None
    beta_slow: Positive | None = None
    mscale: Positive | None = None
    mscale_all_dim: Positive | None = None
    truncate: bool | None = None
    partial_rotary_factor: Annotated[float, Among((1.0,))] = 1.0


@dataclass(frozen=True)
class Layered(Published):
    """The same keys, or a table of them for each type of layer."""

    full_attention: Published | None = None
    sliding_attention: Published | None = None


def canonical(published: Mapping[str, Any] | None, theta: float, longest: int) -> dict[str, Any]:
    """The settings of rope_scaling or rope_parameters in one spelling: the type, the base, and what the type needs.

    Args:
        published: the table of config.json, as `Published` has it; None or empty for unscaled positions.
        theta: the base, if the table has none.
        longest: the model's max_position_embeddings.

    Raises:
        UnsupportedModel: a setting that the type needs is missing, or the two llama3 factors are out of order.
    """
    table = published or {}
    rope_type = table.get("rope_type") or table.get("type") or "default"
    settings = {key: table[key] for key in TYPES[rope_type] if table.get(key) is not None}
    if "original_max_position_embeddings" in TYPES[rope_type]:
        settings.setdefault("original_max_position_embeddings", longest)
    if rope_type == "yarn":
        settings.setdefault("factor", longest / settings["original_max_position_embeddings"])
    missing = [
        key
        for key in ("factor", "low_freq_factor", "high_freq_factor")
        if key in TYPES[rope_type] and key not in settings
    ]
    if missing:
        raise UnsupportedModel(f"rope_type {rope_type!r} without {', '.join(missing)}")
    if rope_type == "llama3" and not settings["low_freq_factor"] < settings["high_freq_factor"]:
        raise UnsupportedModel(
            f"low_freq_factor {settings['low_freq_factor']} is not below "
            f"high_freq_factor {settings['high_freq_factor']}"
        )
    base = float(table.get("rope_theta") or theta)
    return {"rope_type": "default" if rope_type == "dynamic" else rope_type, "rope_theta": base, **settings}


def rotation(ops: Ops, ids: Value, rope: Mapping[str, Any], width: int, limit: int) -> tuple[Value, Value]:
    """Cosines and sines of the positions of ids (n, t), as `Ops.rotary` takes them: (t, width) each.

    Args:
        ops: the engine.
        ids: any value whose second axis is as long as the batch's texts.
        rope: the settings, as `canonical` returns them.
        width: of a head.
        limit: the maximum length, which is the number of rows of the tables.
    """
    place = ops.arange(ids, 1)
    cos, sin = (
        ops.embedding(place, ops.constant(table)) for table in tables(tuple(rope.items()), width, limit)
    )
    return ops.concat([cos, cos], -1), ops.concat([sin, sin], -1)


@functools.lru_cache(maxsize=8)
def tables(rope: tuple[tuple[str, Any], ...], width: int, limit: int) -> tuple[Floats, Floats]:
    """Cosines and sines (limit, width / 2) float32 of every position; both halves of a head share them."""
    frequency, scale = frequencies(dict(rope), width)
    angle = np.arange(limit, dtype=np.float32)[:, None] * frequency
    return np.cos(angle) * np.float32(scale), np.sin(angle) * np.float32(scale)


def frequencies(rope: Mapping[str, Any], width: int) -> tuple[Floats, float]:
    """Radians per position (width / 2,) float32 of each pair, and the factor on cosines and sines."""
    exponent = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    # Computed in float64 and rounded once, which is closest to the float32 powers of the various libraries.
    period = (rope["rope_theta"] ** exponent.astype(np.float64)).astype(np.float32)
    plain = np.float32(1) / period
    if rope["rope_type"] == "linear":
        return plain / np.float32(rope["factor"]), 1.0
    if rope["rope_type"] == "llama3":
        return _llama3(plain, rope), 1.0
    if rope["rope_type"] == "yarn":
        return _yarn(plain, period, rope), _yarn_scale(rope)
    return plain, 1.0


def _llama3(plain: Floats, rope: Mapping[str, Any]) -> Floats:
    """Long wavelengths are stretched by the factor, short ones left as they are, those between interpolated."""
    factor, low, high = (np.float32(rope[f"{name}factor"]) for name in ("", "low_freq_", "high_freq_"))
    trained = rope["original_max_position_embeddings"]
    wave = np.float32(2 * math.pi) / plain
    blend = (np.float32(trained) / wave - low) / (high - low)
    interpolated = (1 - blend) * plain / factor + blend * plain
    stretched = np.where(wave > trained / low, plain / factor, plain)
    between = (wave >= trained / high) & (wave <= trained / low)
    return np.where(between, interpolated, stretched).astype(np.float32)


def _yarn(plain: Floats, period: Floats, rope: Mapping[str, Any]) -> Floats:
    """Pairs with many rotations within the trained length keep their frequency, those with few are stretched."""
    half = len(plain)

    def pair(rotations: float) -> float:
        """The index, a fraction, of the pair that rotates this many times within the trained length."""
        waves = rope["original_max_position_embeddings"] / (rotations * 2 * math.pi)
        return half * math.log(waves) / math.log(rope["rope_theta"])

    first, last = pair(rope.get("beta_fast") or 32), pair(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * half - 1)
    ramp = (np.arange(half, dtype=np.float32) - first) / ((last - first) or 0.001)
    unscaled = 1 - np.clip(ramp, 0, 1)
    stretched: Floats = np.float32(1) / (np.float32(rope["factor"]) * period)
    blended: Floats = (stretched * (1 - unscaled) + plain * unscaled).astype(np.float32)
    return blended


def _yarn_scale(rope: Mapping[str, Any]) -> float:
    """YaRN's factor on cosines and sines, which sharpens the attention of stretched positions."""

    def scale(weight: float) -> float:
        return 1.0 if rope["factor"] <= 1 else 0.1 * weight * math.log(rope["factor"]) + 1.0

    if "attention_factor" in rope:
        return float(rope["attention_factor"])
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return scale(rope["mscale"]) / scale(rope["mscale_all_dim"])
    return scale(1.0)
