"""Surprise: hand-computed shares, what must not change them, and equal hits of two unlike spaces side by side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from omnivec.errors import UsageError
from omnivec.vectors.calibration import LEAST, background, rank_together, surprise

SCORES = arrays(np.float64, st.integers(LEAST, 200), elements=st.floats(-1, 1, width=32))


def test_inside_the_sample_it_is_the_share_above():
    found = background(np.arange(100))
    assert found.threshold == 79
    for place in (3, 50, 78):
        assert surprise(place, found) == pytest.approx(-np.log10((99 - place + 0.5) / 100))
    assert surprise(-50, found) == pytest.approx(-np.log10(0.995))


def test_beyond_it_each_step_divides_the_share_alike():
    found = background(np.arange(1000))
    assert found.scale == pytest.approx((150 * 151 / 2 + 50 * 150) / 150)
    steps = np.diff(surprise([900, 1000, 1100, 10_000, 10_100], found))
    assert steps[[0, 1, 3]] == pytest.approx(steps[0], rel=1e-9)
    assert steps[2] == pytest.approx(89 * steps[0])


def test_of_an_exponential_it_is_the_true_share():
    rng = np.random.default_rng(0)
    found = background(rng.exponential(0.05, 20_000) + 0.6)
    for share in (0.5, 0.1, 1e-2, 1e-4, 1e-8):
        assert surprise(0.6 - 0.05 * np.log(share), found) == pytest.approx(-np.log10(share), rel=0.06)


@settings(max_examples=80, deadline=None)
@given(sample=SCORES, scores=arrays(np.float64, 12, elements=st.floats(-3, 3, width=32)))
@example(sample=np.array([1, -1.31, *[0.0] * 18]), scores=np.array([-(2.0**-126), *[0.0] * 11]))
def test_it_rises_with_the_score_and_never_stops(sample, scores):
    found = background(sample)
    ordered = surprise(np.sort(scores), found)
    assert np.isfinite(ordered).all() and (ordered >= 0).all() and (np.diff(ordered) >= 0).all()
    high = sample.max() + np.array([0.5, 1.0, 2.0, 1e3])
    assert (np.diff(surprise(high, found)) > 0).all()


@settings(max_examples=80, deadline=None)
@given(
    sample=arrays(np.float64, 60, elements=st.integers(-1000, 1000)),
    scores=arrays(np.float64, 9, elements=st.integers(-2000, 2000)),
    factor=st.sampled_from([0.03125, 0.5, 8.0]),
    shift=st.integers(-512, 512),
)
def test_shifting_and_scaling_a_space_changes_nothing(sample, scores, factor, shift):
    if np.sort(sample)[-4] == np.sort(sample)[-13]:
        return  # a tail of ties has no scale of its own
    plain = surprise(scores, background(sample))
    moved = surprise(scores * factor + shift, background(sample * factor + shift))
    np.testing.assert_allclose(moved, plain, rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(sample=SCORES, seed=st.integers(0, 99))
def test_the_order_of_the_sample_does_not_matter(sample, seed):
    mixed = np.random.default_rng(seed).permutation(sample)
    np.testing.assert_array_equal(
        surprise([0.1, 0.9, 2], background(sample)), surprise([0.1, 0.9, 2], background(mixed))
    )


def test_hits_among_the_sample_hardly_move_it():
    rng = np.random.default_rng(2)
    clean = rng.normal(0.2, 0.05, 500)
    dirty = np.concatenate([clean[:490], rng.uniform(0.7, 0.9, 10)])
    a, b = surprise([0.4, 0.8], background(clean)), surprise([0.4, 0.8], background(dirty))
    np.testing.assert_allclose(b, a, rtol=0.3)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def two_spaces(rng, dim=48, count=2000, hits=20):
    """The same things in two spaces: one as they are, one turned and squeezed into a narrow cone; hits alike in both.

    Returns each space's query, vectors and which are hits; half of the things are in each.
    """
    query = rng.standard_normal(dim)
    things = rng.standard_normal((2 * count, dim))
    strength = np.repeat(np.linspace(0.5, 1.2, hits), 2)
    things[: 2 * hits] += strength[:, None] * query
    turn = np.linalg.qr(rng.standard_normal((dim + 1, dim + 1)))[0]

    def narrow(rows):
        length = 3 + 0.02 * rng.standard_normal((len(rows), 1))
        return unit(np.hstack([unit(rows), length])) @ turn

    return [
        (into(query[None])[0], into(things[half::2]), np.arange(count) < hits)
        for half, into in enumerate((unit, narrow))
    ]


def test_equal_hits_of_two_spaces_interleave():
    """Merged by cosine, one space takes every place; by surprise, each gets its half within a tenth."""
    first_by_cosine, first_by_surprise, true = [], [], []
    ranges = []
    for seed in range(25):
        spaces = two_spaces(np.random.default_rng(seed))
        rng = np.random.default_rng(1000 + seed)
        scores = [vectors @ query for query, vectors, _ in spaces]
        ranges.append([np.quantile(own, [0.001, 0.5, 1]) for own in scores])
        backgrounds = [background(own[rng.choice(len(own), 500, replace=False)]) for own in scores]
        which, place, values = rank_together(scores, backgrounds, 20)
        assert (np.diff(values) <= 0).all()
        first_by_surprise.append((which == 0).mean())
        true.append(np.mean([spaces[w][2][p] for w, p in zip(which, place, strict=True)]))
        merged = np.concatenate(scores)
        first_by_cosine.append((np.argsort(-merged)[:20] < len(scores[0])).mean())
    loose, narrow = np.mean(ranges, 0)
    assert loose[0] < -0.3 and narrow[0] > 0.85  # nothing of the second is as low as the best of the first
    assert np.mean(first_by_cosine) == 0
    assert 0.4 < np.mean(first_by_surprise) < 0.6
    assert np.mean(true) > 0.9


def test_hits_are_ranked_over_all_spaces():
    near, far = background(np.linspace(0.0, 0.1, 101)), background(np.linspace(0.5, 0.9, 101))
    which, place, values = rank_together([[0.09, 0.5], [0.8, 0.9, 0.6]], [near, far], k=4)
    assert list(zip(which.tolist(), place.tolist(), strict=True)) == [(0, 1), (1, 1), (0, 0), (1, 0)]
    assert values.dtype == np.float32
    assert len(rank_together([[0.1], []], [near, far])[0]) == 1


def test_samples_of_one_value_still_tell_hits_apart():
    found = background(np.full(50, 0.3))
    low, same, high, higher = surprise([0.2, 0.3, 0.4, 0.5], found)
    assert low == same < high < higher


def test_what_makes_no_background_is_said():
    with pytest.raises(UsageError, match="19 scores are too few for a background: at least 20"):
        background(np.arange(19))
    with pytest.raises(UsageError, match="1 of 20 scores are not finite"):
        background([*range(19), np.inf])
    with pytest.raises(UsageError, match="2 spaces and 1 backgrounds"):
        rank_together([[1.0], [2.0]], [background(np.arange(30))])
