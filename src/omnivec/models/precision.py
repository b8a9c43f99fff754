"""Measures a lower precision on texts: similarity of the vectors to float32, equal neighbours, memory and speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats
from omnivec.vectors.unit import unit

Encode = Callable[[Sequence[str]], Floats]

PARTS = 8
"""The texts are encoded in so many parts, alternating the precisions, so that other load affects both."""

NEIGHBOURS = 10


@dataclass(frozen=True)
class PrecisionLoss:
    """The comparison of a precision with float32, on the same texts and machine.

    Attributes:
        precision: the precision.
        texts: number of different texts.
        cosine_mean, cosine_p1, cosine_min: cosine of the two vectors of a text: mean, first percentile, smallest.
        same_nearest: share of the texts whose nearest neighbour among the others is the same in both precisions.
        same_10_nearest: share of the ten nearest neighbours that are among the ten nearest in float32 too.
        bytes_float32, bytes: size of the weights in float32, and in this precision.
        speed: CPU seconds of float32 divided by those of this precision; above 1 is faster.
    """

    precision: str
    texts: int
    cosine_mean: float
    cosine_p1: float
    cosine_min: float
    same_nearest: float
    same_10_nearest: float
    bytes_float32: int
    bytes: int
    speed: float


def compare(exact: Encode, other: Encode, texts: Sequence[str]) -> tuple[Floats, Floats, float]:
    """Encodes texts with both functions, alternating; returns both arrays (n, dim) and CPU seconds exact / other."""
    seconds = [0.0, 0.0]
    vectors: tuple[list[Floats], list[Floats]] = ([], [])
    parts = [[texts[i] for i in part] for part in np.array_split(np.arange(len(texts)), PARTS) if len(part)]
    for encode in (exact, other):
        encode(parts[0])  # warm-up: the first call creates kernels and threads
    for turn, part in enumerate(parts):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            start = time.process_time()
            vectors[which].append((exact, other)[which](part))
            seconds[which] += time.process_time() - start
    return np.concatenate(vectors[0]), np.concatenate(vectors[1]), seconds[0] / max(seconds[1], 1e-9)


def measure(
    precision: str, exact: Encode, other: Encode, texts: Sequence[str], sizes: tuple[int, int]
) -> PrecisionLoss:
    """Compares a precision with float32.

    Args:
        precision: name of the precision.
        exact: maps texts to vectors (n, dim) in float32.
        other: does the same in the precision.
        texts: the texts; duplicates are encoded once.
        sizes: bytes of the weights in float32 and in the precision.

    Raises:
        UsageError: there are fewer than two different texts.
    """
    different = list({one if isinstance(one, Hashable) else id(one): one for one in texts}.values())
    if len(different) < 2:
        raise UsageError(f"{len(different)} different texts: at least 2 are needed to compare neighbours")
    a, b, speed = compare(exact, other, different)
    a, b = unit(a), unit(b)
    cosines = (a.astype(np.float64) * b).sum(axis=1)
    nearest, among = neighbours_kept(a, b, NEIGHBOURS)
    return PrecisionLoss(
        precision=precision,
        texts=len(different),
        cosine_mean=round(float(cosines.mean()), 7),
        cosine_p1=round(float(np.percentile(cosines, 1)), 7),
        cosine_min=round(float(cosines.min()), 7),
        same_nearest=round(nearest, 4),
        same_10_nearest=round(among, 4),
        bytes_float32=sizes[0],
        bytes=sizes[1],
        speed=round(speed, 3),
    )


def neighbours_kept(a: Floats, b: Floats, k: int) -> tuple[float, float]:
    """Returns the share of rows of a and b (n, dim), unit vectors, with the same nearest, and of common k nearest."""
    same = shared = 0
    count = min(k, len(a) - 1)
    step = max(1, 2**22 // len(a))
    for start in range(0, len(a), step):
        left, right = (_nearest(v, start, step, count) for v in (a, b))
        same += int((left[:, 0] == right[:, 0]).sum())
        shared += int((left[:, :, None] == right[:, None, :]).sum())
    return same / len(a), shared / (len(a) * count)


def _nearest(vectors: Floats, start: int, step: int, count: int) -> NDArray[np.int64]:
    """Returns the indices (step, count) of the nearest other rows of some rows, the nearest first."""
    scores = vectors[start : start + step] @ vectors.T
    rows = np.arange(len(scores))
    scores[rows, start + rows] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]
