"""Diarization: turns by hand, error rates by hand and by frames, assignment against SciPy, made conversations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from omnivec.errors import UsageError
from omnivec.vectors import diarization
from omnivec.vectors.agglomerative import average_link
from omnivec.vectors.diarization import (
    Turns,
    best_assignment,
    checked_spans,
    diarization_error,
    speaker_turns,
    windows,
)


def turns(*rows):
    """Turns of (start, end, speaker)."""
    spans = np.array([row[:2] for row in rows], float).reshape(-1, 2)
    return Turns(spans, np.array([row[2] for row in rows], np.int64))


def rows_of(found):
    return [
        (*span, speaker)
        for span, speaker in zip(found.spans.round(6).tolist(), found.speakers.tolist(), strict=True)
    ]


def conversation(speakers, seed=0, dim=32, noise=0.4, lengths=(2, 5)):
    """Turns of 2 to 5 s, and windows of 1.6 s whose vectors mix the speakers in them by their shares."""
    generator = np.random.default_rng(seed)
    voices = generator.normal(size=(max(speakers) + 1, dim))
    ends = np.cumsum(generator.uniform(lengths[0], lengths[1], len(speakers)))
    truth = turns(*zip([0, *ends[:-1]], ends, speakers, strict=True))
    spans = windows([[0, ends[-1]]])
    shares = np.zeros((len(spans), len(voices)))
    for start, end, speaker in rows_of(truth):
        shares[:, speaker] += np.clip(np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start), 0, None)
    vectors = shares / 1.6 @ voices + noise * generator.normal(size=(len(spans), dim))
    return truth, spans, vectors


def test_windows_by_hand():
    assert windows([[0, 2], [3, 4]], 1.5, 0.25).tolist() == [[0, 1.5], [0.25, 1.75], [0.5, 2], [3, 4]]
    assert windows([[1, 3.1]], 1.6, 0.25).round(6).tolist() == [[1, 2.6], [1.25, 2.85], [1.5, 3.1]]
    assert windows([[1, 3]], 1.6, 0.25).round(6).tolist() == [[1, 2.6], [1.25, 2.85], [1.4, 3]]
    assert windows([[0, 0.3], [1, 1.4]]).tolist() == [[1, 1.4]]
    assert windows([]).shape == (0, 2)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 3), st.floats(0.4, 9)), min_size=1, max_size=5),
    st.floats(0.2, 3),
    st.floats(0.05, 2),
)
def test_windows_cover_the_speech_and_nothing_else(pieces, length, step):
    bounds = np.cumsum(np.array(pieces).reshape(-1)).reshape(-1, 2)
    found = windows(bounds, length, step)
    for start, end in bounds.tolist():
        inside = found[(found[:, 0] >= start - 1e-9) & (found[:, 1] <= end + 1e-9)]
        assert inside[0, 0] == pytest.approx(start)
        assert inside[-1, 1] == pytest.approx(end)
        assert (np.diff(inside[:, 0]) <= step + 1e-9).all()
        assert inside[:, 1] - inside[:, 0] == pytest.approx(min(length, end - start))
    total = sum(((found[:, 0] >= s - 1e-9) & (found[:, 1] <= e + 1e-9)).sum() for s, e in bounds.tolist())
    assert total == len(found)


def test_each_moment_belongs_to_the_nearest_window():
    one, other = [1, 0.1], [0.1, 1]
    spans = [[0, 2], [2, 4], [4, 6], [6, 8]]
    found = speaker_turns([one, one, other, one], spans, count=2)
    # Middles 1, 3, 5, 7: the second speaker has what is nearer to 5 than to 3 or 7.
    assert rows_of(found) == [(0, 4, 0), (4, 6, 1), (6, 8, 0)]
    assert repr(found) == "<Turns: 3 of 2 speakers, 8.0 s>"


def test_turns_are_limited_to_speech():
    one, other = [1, 0.1], [0.1, 1]
    spans = [[0, 2], [2, 4], [4, 6], [6, 8]]
    speech = np.array([[0.5, 1], [1.5, 4.5], [5, 9]])
    found = speaker_turns([one, one, other, other], spans, speech, count=2)
    assert rows_of(found) == [(0.5, 1, 0), (1.5, 4, 0), (4, 4.5, 1), (5, 9, 1)]


def test_speakers_are_numbered_by_their_first_turn():
    found = speaker_turns([[0, 1], [1, 0], [0, 1]], [[0, 3], [3, 6], [6, 9]], threshold=0.5)
    assert found.speakers.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("limit", "speakers"), [(2.5, 2), (0.5, 3)])
def test_a_cluster_with_little_speech_goes_to_the_nearest_other(limit, speakers):
    a, b, c = (np.array(one) for one in ([1.0, 0, 0], [0, 1.0, 0], [0, 0.6, 0.8]))
    spans = [[0, 3], [3, 6], [6, 7], [7, 10]]
    found = speaker_turns([a, b, c, a], spans, threshold=0.7, shortest=limit)
    assert found.count == speakers
    if speakers == 2:  # c is nearer to b, and has the time from 5.5 to 7.5
        assert rows_of(found) == [(0, 3, 0), (3, 7.5, 1), (7.5, 10, 0)]


def test_with_a_known_number_an_outlier_is_no_speaker():
    """Two clusters at the highest level would be the outlier and everything else."""
    a, b, outlier = np.array([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1]])
    spans = np.array([[0, 4], [4, 8], [8, 8.4], [8.4, 12]])
    found = speaker_turns([a, b, outlier, a], spans, np.array([[0, 8], [8.2, 8.3], [8.4, 12]]), count=2)
    assert found.speakers[:2].tolist() == [0, 1]
    assert found.count == 2


def test_more_speakers_than_windows_are_as_many_as_can_be():
    assert speaker_turns([[1, 0], [0, 1]], [[0, 3], [3, 6]], count=5).count == 2
    assert speaker_turns([[1, 0]], [[0, 0.5]], threshold=0.5).count == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("known", [True, False])
def test_made_conversations_are_told_apart(seed, known):
    speakers = [0, 1, 2, 0, 2, 1, 0, 1, 2, 1, 0, 2]
    truth, spans, vectors = conversation(speakers, seed)
    way = {"count": 3} if known else {"threshold": 0.5}
    found = speaker_turns(vectors, spans, **way)
    assert found.count == 3
    assert diarization_error(truth, found).rate < 0.1
    assert diarization_error(truth, found, collar=0.25).rate < 0.05


def test_errors_by_hand():
    reference = turns((0, 4, 0), (4, 8, 1), (10, 12, 0))
    found = turns((0, 5, 7), (5, 9, 3), (11, 12, 3))
    # 7 is 0 and 3 is 1: 4 to 5 and 11 to 12 are confused, 8 to 9 is a false alarm, 10 to 11 is missed.
    error = diarization_error(reference, found)
    assert (error.confusion, error.false_alarm, error.missed, error.total) == (2, 1, 1, 10)
    assert error.rate == pytest.approx(0.4)
    # Without 0.5 s around each boundary of the reference, 6 s of its speech are left: 4.5 to 5 is confused, 8.5 to 9 a
    # false alarm, 10.5 to 11 missed, 11 to 11.5 confused.
    error = diarization_error(reference, found, collar=0.5)
    assert (error.confusion, error.false_alarm, error.missed, error.total) == (1, 0.5, 0.5, 7)


def test_nothing_found_misses_everything():
    error = diarization_error(turns((0, 4, 0)), turns())
    assert (error.missed, error.rate) == (4, 1)


@st.composite
def timelines(draw):
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=10))
    gaps = draw(st.lists(st.integers(0, 2), min_size=len(lengths), max_size=len(lengths)))
    who = draw(st.lists(st.integers(0, 3), min_size=len(lengths), max_size=len(lengths)))
    rows, at = [], 0
    for length, gap, speaker in zip(lengths, gaps, who, strict=True):
        rows.append((at + gap, at + gap + length, speaker))
        at += gap + length
    return turns(*rows)


@settings(max_examples=150, deadline=None)
@given(timelines(), timelines())
def test_errors_are_those_of_counting_seconds(reference, found):
    """All times are whole seconds, so that whole seconds can be counted, with all mappings tried."""
    end = int(max(reference.spans.max(), found.spans.max()))
    true, given_to = ([-1] * end for _ in range(2))
    for timeline, made in ((true, reference), (given_to, found)):
        for start, stop, speaker in rows_of(made):
            timeline[int(start) : int(stop)] = [speaker] * int(stop - start)
    both = [(t, g) for t, g in zip(true, given_to, strict=True) if t >= 0 and g >= 0]
    right = max(sum(mapping[g] == t for t, g in both) for mapping in itertools.permutations(range(4)))
    error = diarization_error(reference, found)
    pairs = list(zip(true, given_to, strict=True))
    assert error.confusion == pytest.approx(len(both) - right)
    assert error.missed == pytest.approx(sum(t >= 0 > g for t, g in pairs))
    assert error.false_alarm == pytest.approx(sum(g >= 0 > t for t, g in pairs))
    assert error.total == pytest.approx(sum(t >= 0 for t in true))


@settings(max_examples=80, deadline=None)
@given(timelines(), st.permutations(range(4)))
def test_names_of_speakers_do_not_matter(reference, names):
    renamed = Turns(reference.spans, np.array(names)[reference.speakers])
    assert diarization_error(reference, renamed).rate == 0


@settings(max_examples=150, deadline=None)
@given(rows=st.integers(0, 9), columns=st.integers(0, 9), seed=st.integers(0, 10_000), ties=st.booleans())
def test_assignment_is_that_of_scipy(rows, columns, seed, ties):
    gains = np.random.default_rng(seed).normal(size=(rows, columns))
    gains = gains.round() if ties else gains
    one, other = best_assignment(gains)
    reference = linear_sum_assignment(gains, maximize=True)
    assert gains[one, other].sum() == pytest.approx(gains[reference].sum())
    assert one.tolist() == sorted(set(one.tolist()))
    assert len(one) == len(set(other.tolist())) == min(rows, columns)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: windows([[2, 1]]), "span 0 ends at 1 s and starts at 2 s"),
        (lambda: windows([[0, 2], [1, 3]]), "span 1 starts at 1 s, before span 0 ends at 2 s"),
        (lambda: windows([[0, 2]], step=0), "step=0"),
        (lambda: checked_spans([[1, 2, 3]]), r"shape \(1, 3\)"),
        (lambda: speaker_turns([[1, 0]], [[0, 1]]), "and not both"),
        (lambda: speaker_turns([[1, 0]], [[0, 1]], count=1, threshold=0.5), "and not both"),
        (
            lambda: speaker_turns([[1, 0]], [[0, 1], [1, 2]], count=1),
            r"1 vectors and spans of shape \(2, 2\)",
        ),
        (lambda: speaker_turns(np.eye(2), [[1, 2], [0, 1]], count=1), "not in ascending order"),
        (lambda: speaker_turns(np.eye(2), [[0, 1], [1, 2]], count=0), "count=0: at least 1"),
        (lambda: speaker_turns(np.eye(2), [[0, 1], [1, 2]], threshold=2), "threshold=2"),
        (lambda: diarization_error(turns((0, 1, 0)), turns(), collar=2), "1 turns' collars of 2 s"),
        (lambda: diarization_error(turns((0, 2, 0), (1, 3, 1)), turns()), "reference: span 1 starts at 1 s"),
    ],
)
def test_invalid_arguments_are_named(call, why):
    with pytest.raises(UsageError, match=why):
        call()


def test_windows_with_two_speakers_are_left_out_of_the_clustering(monkeypatch):
    """Short turns: a third of the windows hold two speakers, whose vectors lie between those of both."""
    speakers = [0, 1] * 15

    def mean_error(share):
        monkeypatch.setattr(diarization, "CHANGES", share)
        errors = []
        for seed in range(6):
            truth, spans, vectors = conversation(speakers, seed, noise=0.6, lengths=(1.7, 3))
            found = speaker_turns(vectors, spans, threshold=0.5)
            errors.append(diarization_error(truth, found).rate)
        return np.mean(errors)

    assert mean_error(diarization.CHANGES) < 0.8 * mean_error(0.0)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 25), count=st.integers(1, 6), limit=st.floats(0, 4))
def test_the_level_of_a_known_number_is_the_highest_with_enough_speech(seed, size, count, limit):
    generator = np.random.default_rng(seed)
    tree, seconds = average_link(generator.normal(size=(size, 5))), generator.uniform(0, 2, size)
    levels = [tree.cut(clusters) for clusters in range(min(count, size), size + 1)]
    enough = [labels for labels in levels if (np.bincount(labels, seconds) >= limit).sum() >= count]
    expected = enough[0] if enough else levels[0]
    assert diarization._of_count(tree, seconds, count, limit).tolist() == expected.tolist()
