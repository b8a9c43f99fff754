"""Maps between the vectors of two models: what they find, and what they say of themselves."""

from __future__ import annotations

import numpy as np
import pytest

from omnivec.errors import UsageError
from omnivec.types import Floats
from omnivec.vectors.bridge import ENOUGH, Bridge, fit_map, recall
from omnivec.vectors.unit import unit


def drawn(n: int, dim: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def turned(vectors: Floats, seed: int = 1) -> Floats:
    """The same vectors after a rotation and a reflection."""
    turn, _ = np.linalg.qr(drawn(vectors.shape[1], vectors.shape[1], seed).astype(np.float64))
    return np.asarray(vectors @ turn, np.float32)


def test_a_rotation_is_found_exactly_by_an_orthogonal_map() -> None:
    source = drawn(80, 24)
    target = turned(source)
    bridge = Bridge().fit(source, target)
    assert (bridge.method_, bridge.recall_, bridge.enough_) == ("procrustes", 1.0, True)
    new = drawn(10, 24, seed=5)
    np.testing.assert_allclose(bridge.transform(new), unit(turned(new)), atol=2e-2)


def test_a_linear_map_that_is_no_rotation_is_found_by_ridge() -> None:
    source = drawn(600, 16)
    target = np.asarray(source @ (drawn(16, 40, seed=2) * np.geomspace(0.05, 3, 40)), np.float32)
    bridge = Bridge().fit(source, target)
    assert bridge.method_ == "ridge"
    assert bridge.recall_ > 0.85
    assert bridge.recalls_["procrustes", 0.0] < bridge.recall_
    assert bridge.transform(source[:3]).shape == (3, 40)


def test_unrelated_vectors_are_not_said_to_do() -> None:
    bridge = Bridge().fit(drawn(400, 16), drawn(400, 16, seed=9))
    assert bridge.recall_ < 0.2 < ENOUGH
    assert not bridge.enough_


def test_the_recall_is_that_of_brute_force_on_held_out_pairs() -> None:
    source, noise = drawn(200, 12), drawn(200, 12, seed=3)
    target = turned(source) + 0.7 * noise
    bridge = Bridge(random_state=4).fit(source, target)
    order = np.random.default_rng(4).permutation(200)
    held, fitted = order[:40], order[40:]
    again = fit_map(source[fitted], target[fitted], bridge.method_, bridge.strength_)
    shares = []
    for one, own in zip(again(source[held]), target[held], strict=True):
        rows = unit(target[fitted].astype(np.float64))
        found, true = (
            set(np.argsort(-(rows @ unit(q[None].astype(np.float64))[0]))[:10]) for q in (one, own)
        )
        shares.append(len(found & true) / 10)
    assert bridge.recall_ == pytest.approx(np.mean(shares), abs=1e-3)
    assert bridge.recall_ == max(bridge.recalls_.values())


def test_neighbours_may_be_looked_for_in_other_vectors_of_the_same_items() -> None:
    rows = drawn(50, 8)
    assert recall(rows[:5], turned(rows)[:5], rows, own_among=turned(rows)) == 1.0
    assert recall(rows[:5], rows[:5], rows[:3]) == 1.0, "fewer than 10"


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (drawn(60, 4), drawn(59, 4), "of the same items"),
        (drawn(60, 4), drawn(60, 4)[0], "of the same items"),
        (drawn(49, 4), drawn(49, 4), "49 pairs of vectors: a map is fitted to 50 or more"),
        (drawn(60, 4) * np.float32(np.nan), drawn(60, 4), "NaN or infinite"),
    ],
)
def test_wrong_pairs_are_refused(source: Floats, target: Floats, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Bridge().fit(source, target)


def test_vectors_of_another_length_are_refused() -> None:
    bridge = Bridge().fit(drawn(60, 4), drawn(60, 6))
    with pytest.raises(UsageError, match=r"of shape \(2, 6\); this map takes \(n, 4\)"):
        bridge.transform(drawn(2, 6))
