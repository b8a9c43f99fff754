"""Rotary positions: their frequencies as published, scaled for longer texts or not, and tables of their angles.

Su et al. 2021, arXiv:2104.09864; YaRN: Peng et al. 2023, arXiv:2309.00071. Frequencies are float32 in the order of
operations that models were trained with: at place 30,000 another rounding turns a pair visibly.
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

# What each published rope_type depends on beside its base. "dynamic" changes only beyond the model's own length,
# where no text of ours reaches.
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
    """rope_scaling or rope_parameters of a config.json, as far as it is read."""

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
    """The same, or a table of it for each type of layer."""

    full_attention: Published | None = None
    sliding_attention: Published | None = None


def canonical(published: Mapping[str, Any] | None, theta: float, longest: int) -> dict[str, Any]:
    """One spelling of rope_scaling and rope_parameters: the type, the base, and what that type depends on.

    Args:
        published: the table of config.json, as `Published` has it; None or empty for unscaled positions.
        theta: the base, where the table has none.
        longest: the model's max_position_embeddings.

    Raises:
        UnsupportedModel: positions that are computed otherwise.
    """
    said = published or {}
    kind = said.get("rope_type") or said.get("type") or "default"
    found = {key: said[key] for key in TYPES[kind] if said.get(key) is not None}
    if "original_max_position_embeddings" in TYPES[kind]:
        found.setdefault("original_max_position_embeddings", longest)
    if kind == "yarn":
        found.setdefault("factor", longest / found["original_max_position_embeddings"])
    missing = [
        key
        for key in ("factor", "low_freq_factor", "high_freq_factor")
        if key in TYPES[kind] and key not in found
    ]
    if missing:
        raise UnsupportedModel(f"rope_type {kind!r} without {', '.join(missing)}")
    if kind == "llama3" and not found["low_freq_factor"] < found["high_freq_factor"]:
        raise UnsupportedModel(
            f"low_freq_factor {found['low_freq_factor']} is not below high_freq_factor {found['high_freq_factor']}"
        )
    base = float(said.get("rope_theta") or theta)
    return {"rope_type": "default" if kind == "dynamic" else kind, "rope_theta": base, **found}


def rotation(ops: Ops, ids: Value, rope: Mapping[str, Any], width: int, limit: int) -> tuple[Value, Value]:
    """Cosines and sines of the places of ids (n, t), as `Ops.rotary` takes them: (t, width) each.

    Args:
        ops: the engine.
        ids: whatever has the batch's length on its second axis.
        rope: as `canonical` gives it.
        width: of a head.
        limit: the most places there may be: rows of the tables.
    """
    place = ops.arange(ids, 1)
    cos, sin = (
        ops.embedding(place, ops.constant(table)) for table in tables(tuple(rope.items()), width, limit)
    )
    return ops.concat([cos, cos], -1), ops.concat([sin, sin], -1)


@functools.lru_cache(maxsize=8)
def tables(rope: tuple[tuple[str, Any], ...], width: int, limit: int) -> tuple[Floats, Floats]:
    """Cosines and sines (limit, width / 2) float32 of every place: the halves of a head turn alike."""
    frequency, scale = frequencies(dict(rope), width)
    angle = np.arange(limit, dtype=np.float32)[:, None] * frequency
    return np.cos(angle) * np.float32(scale), np.sin(angle) * np.float32(scale)


def frequencies(rope: Mapping[str, Any], width: int) -> tuple[Floats, float]:
    """Radians per place (width / 2,) float32 of each pair, and the factor on cosines and sines."""
    exponent = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    # The power is rounded once, from float64: as near to what others compute in float32 as there is.
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
    """Long waves are stretched by the factor, short ones kept, those between blended."""
    factor, low, high = (np.float32(rope[f"{name}factor"]) for name in ("", "low_freq_", "high_freq_"))
    trained = rope["original_max_position_embeddings"]
    wave = np.float32(2 * math.pi) / plain
    blend = (np.float32(trained) / wave - low) / (high - low)
    mixed = (1 - blend) * plain / factor + blend * plain
    stretched = np.where(wave > trained / low, plain / factor, plain)
    between = (wave >= trained / high) & (wave <= trained / low)
    return np.where(between, mixed, stretched).astype(np.float32)


def _yarn(plain: Floats, period: Floats, rope: Mapping[str, Any]) -> Floats:
    """Pairs that turn often within the trained length are kept, those that turn seldom stretched."""
    half = len(plain)

    def pair(turns: float) -> float:
        """The pair, counted in fractions, that turns so often within the trained length."""
        waves = rope["original_max_position_embeddings"] / (turns * 2 * math.pi)
        return half * math.log(waves) / math.log(rope["rope_theta"])

    first, last = pair(rope.get("beta_fast") or 32), pair(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * half - 1)
    ramp = (np.arange(half, dtype=np.float32) - first) / ((last - first) or 0.001)
    kept = 1 - np.clip(ramp, 0, 1)
    stretched: Floats = np.float32(1) / (np.float32(rope["factor"]) * period)
    blended: Floats = (stretched * (1 - kept) + plain * kept).astype(np.float32)
    return blended


def _yarn_scale(rope: Mapping[str, Any]) -> float:
    def scale(weight: float) -> float:
        return 1.0 if rope["factor"] <= 1 else 0.1 * weight * math.log(rope["factor"]) + 1.0

    if "attention_factor" in rope:
        return float(rope["attention_factor"])
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return scale(rope["mscale"]) / scale(rope["mscale_all_dim"])
    return scale(1.0)
