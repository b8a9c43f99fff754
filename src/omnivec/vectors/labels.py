"""Zero-shot classification: each image (or text, or sound) is compared with descriptions of the classes.

Radford et al. 2021, arXiv:2103.00020, section 3.1 (softmax, ensembles of prompts); Zhai et al. 2023,
arXiv:2303.15343 (sigmoid). The vectors of both must lie in one space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats
from omnivec.validation.arguments import real
from omnivec.vectors.arrays import numbers
from omnivec.vectors.unit import unit

PLACE = "{}"


def zero_shot(items: Floats, labels: Floats, scale: float = 100.0, bias: float | None = None) -> Floats:
    """The probability of each label for each item.

    Args:
        items: (n, dim) vectors of images, of any length.
        labels: (k, dim) vectors of the labels' descriptions, in the same space.
        scale: the factor on cosines: the model's own, or CLIP's limit of 100.
        bias: added to the scaled cosines, for a model trained with a sigmoid; None for one trained with a softmax.

    Returns:
        (n, k) float32. With a bias, labels are independent of each other; without one, each row sums to 1.

    Raises:
        UsageError: vectors of different lengths, no label, or numbers that are not finite.
    """
    images, texts = _unit(items, "items"), _unit(labels, "labels")
    scale = real("scale", scale)
    if images.shape[1] != texts.shape[1]:
        raise UsageError(
            f"items have {images.shape[1]} components and labels {texts.shape[1]}: they are of different spaces"
        )
    if not len(texts):
        raise UsageError("no labels: give at least one")
    logits = images @ texts.T * scale
    return probabilities(
        logits if bias is None else logits + real("bias", bias), independent=bias is not None
    )


def probabilities(logits: NDArray[np.float64], *, independent: bool) -> Floats:
    """The probabilities that logits (n, k) stand for, float32: each by itself, or those of a row with a sum of 1."""
    return (_sigmoid(logits) if independent else _softmax(logits)).astype(np.float32)


def fill(templates: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Each label in each template, such as "a photo of a {}": labels * templates texts, those of a label together.

    Raises:
        UsageError: no template, or one without its {}.
    """
    if lacking := [one for one in templates if PLACE not in one]:
        raise UsageError(f"template {lacking[0]!r} has no {PLACE} for the label, as 'a photo of a {{}}' has")
    if not templates:
        raise UsageError("no templates: give at least '{}'")
    return [template.replace(PLACE, label) for label in labels for template in templates]


def average(vectors: Floats, labels: int) -> Floats:
    """One vector for each label: the mean of its templates' unit vectors, scaled to length 1.

    Args:
        vectors: (labels * templates, dim), in the order of `fill`.
        labels: number of labels.

    Returns:
        (labels, dim) float32.

    Raises:
        UsageError: the number of vectors is not a multiple of that of the labels.
    """
    rows = _unit(vectors, "vectors")
    if labels < 1 or not len(rows) or len(rows) % labels:
        raise UsageError(f"{len(rows)} vectors for {labels} labels: each label needs the same number")
    means = rows.reshape(labels, -1, rows.shape[1]).mean(1)
    return _unit(means, "means").astype(np.float32)


def _unit(vectors: Floats, what: str) -> NDArray[np.float64]:
    rows = numbers(what, vectors).astype(np.float64)
    if rows.ndim != 2:
        raise UsageError(f"{what} of shape {rows.shape}: vectors are (n, dim)")
    if not np.isfinite(rows).all():
        raise UsageError(f"{what}: {int((~np.isfinite(rows)).sum())} of {rows.size} numbers are not finite")
    return unit(rows)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # By exp of a negative number: it does not overflow, and small probabilities lose no digits.
    small = np.exp(-np.abs(logits))
    shares: NDArray[np.float64] = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return shares
