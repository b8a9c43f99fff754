"""Normalisation by a cohort: against the formula written out, invariants, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from omnivec.errors import UsageError
from omnivec.vectors.cohort import TOP, Cohort, speaker_means
from omnivec.vectors.verification import all_trials, equal_error_rate, score_trials


def vectors(count, seed=0, dim=16):
    return np.random.default_rng(seed).normal(size=(count, dim)) + 0.5


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("top", [None, 20])
@pytest.mark.parametrize("center", [False, True])
def test_scores_are_those_of_the_formula(top, center):
    cohort, a, b = vectors(120), vectors(5, 1), vectors(5, 2)
    found = Cohort.fit(cohort, top=top, center=center).normalize(a, b)
    mean = unit(cohort).mean(0) if center else 0
    others = unit(unit(cohort) - mean)
    for i in range(5):
        one, other = unit(unit(a[i]) - mean), unit(unit(b[i]) - mean)
        total = 0.0
        for side in (one, other):
            highest = sorted(others @ side)[-(top or 120) :]
            total += (one @ other - np.mean(highest)) / np.std(highest)
        assert found[i] == pytest.approx(total / 2)


def test_scores_are_symmetric_and_do_not_depend_on_lengths_or_order():
    cohort, a, b = vectors(150), vectors(8, 1), vectors(8, 2)
    fitted = Cohort.fit(cohort)
    scores = fitted.normalize(a, b)
    assert fitted.normalize(b, a) == pytest.approx(scores)
    assert Cohort.fit(3 * cohort[::-1]).normalize(2 * a, b / 5) == pytest.approx(scores)
    assert fitted.normalize(a[3], b[3]) == pytest.approx(scores[3:4])


def test_the_own_speaker_can_be_left_out():
    cohort, members, others = vectors(150), [3, 7], [4, 8, 11]
    found = Cohort.fit(cohort).normalize_all(cohort[members], cohort[others], members, others)
    assert found.shape == (2, 3)
    for i, member in enumerate(members):
        for j, other in enumerate(others):
            cosine, total = unit(cohort[member]) @ unit(cohort[other]), 0.0
            for side in (member, other):
                rest = unit(np.delete(cohort, side, axis=0)) @ unit(cohort[side])
                total += (cosine - rest.mean()) / rest.std()
            assert found[i, j] == pytest.approx(total / 2)


def test_all_pairs_are_the_pairs():
    fitted, a, b = Cohort.fit(vectors(150), top=40), vectors(4, 1), vectors(4, 2)
    assert np.diag(fitted.normalize_all(a, b)) == pytest.approx(fitted.normalize(a, b))


def test_offsets_of_single_recordings_are_removed():
    """Half of the recordings share a strong component with the cohort, which makes all of their cosines high."""
    generator = np.random.default_rng(0)
    voices, channel = generator.normal(size=(30, 16)), np.zeros(16)
    channel[0] = 4.0
    speakers = np.arange(30).repeat(4)
    items = voices[speakers] + 0.5 * generator.normal(size=(120, 16))
    items[::2] += channel
    cohort = generator.normal(size=(300, 16))
    cohort[::2] += channel
    pairs, labels = all_trials(speakers)
    plain = equal_error_rate(labels, score_trials(items, pairs)).value
    fitted = Cohort.fit(cohort)
    normalised = equal_error_rate(labels, fitted.normalize(items[pairs[:, 0]], items[pairs[:, 1]])).value
    assert normalised < 0.9 * plain


def test_defaults_depend_on_the_number_of_speakers():
    assert Cohort.fit(vectors(120)).top == 120
    assert Cohort.fit(vectors(1200)).top == TOP
    assert repr(Cohort.fit(vectors(1200))) == "<Cohort: 1,200 speakers, the 300 most similar are used>"


def test_several_recordings_of_a_speaker_count_once():
    rows = vectors(360)
    speakers = np.arange(120).repeat(3).tolist()
    fitted = Cohort.fit(rows, speakers)
    assert fitted.vectors.shape == (120, 16)
    assert fitted.vectors == pytest.approx(unit(unit(rows).reshape(120, 3, 16).mean(1)))
    assert speaker_means([[1, 0], [0, 2], [0, 1]], ["b", "a", "b"]) == pytest.approx(
        np.array([[0.5, 0.5], [0, 1]])
    )


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: Cohort.fit(vectors(99)), "a cohort of 99 speakers: at least 100 are needed"),
        (lambda: Cohort.fit(vectors(300), np.arange(300) // 4), "a cohort of 75 speakers"),
        (lambda: Cohort.fit(vectors(300), [1]), "1 speakers for 300 vectors"),
        (lambda: Cohort.fit(vectors(120), top=121), "top=121: 2 to 120"),
        (lambda: Cohort.fit(np.ones((120, 3))).normalize([1, 2, 3], [3, 2, 1]), "have the same vector"),
        (lambda: Cohort.fit(vectors(120)).scores(np.ones(3)), "vectors of 3 components and the cohort of 16"),
        (lambda: Cohort.fit(vectors(120)).normalize(vectors(2), vectors(3)), "a has 2 vectors and b 3"),
    ],
)
def test_invalid_arguments_are_named(call, why):
    with pytest.raises(UsageError, match=why):
        call()
