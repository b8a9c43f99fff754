"""Counts equal a plain double loop over the text, bit for bit, whatever the windows, chunks and threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from omnivec.tables.kernels import cooccurrence
from omnivec.tables.kernels.cooccurrence import Cooccurrence, Windows, count

WORDS = 7
SENTENCES = st.lists(st.lists(st.integers(0, WORDS - 1), max_size=12), max_size=6)
WINDOWS = st.builds(Windows, st.integers(1, 9), st.booleans(), st.booleans())


def flat(sentences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([word for sentence in sentences for word in sentence], np.int32)
    return ids, np.cumsum([0, *map(len, sentences)]).astype(np.int64)


def plain(sentences: list[list[int]], windows: Windows) -> np.ndarray:
    """The definition: each word, and each word around it, from left to right."""
    sums = np.zeros((WORDS, WORDS))
    for sentence in sentences:
        for here, word in enumerate(sentence):
            for there, near in enumerate(sentence):
                distance = abs(here - there)
                if 0 < distance <= windows.size and (windows.symmetric or there < here):
                    sums[word, near] += 1 / distance if windows.distance_weighting else 1
    return sums.astype(np.float32)


def dense(counts: Cooccurrence, words: int = WORDS) -> np.ndarray:
    """As a full matrix; every entry must stand in it once."""
    rows = np.repeat(np.arange(words), np.diff(counts.indptr))
    full = np.zeros((words, words), np.float32)
    full[rows, counts.columns] = counts.values
    assert np.count_nonzero(full) == len(counts.columns) == len(counts)
    return full


@settings(max_examples=200, deadline=None)
@given(SENTENCES, WINDOWS, st.sampled_from([1, 3]), st.sampled_from([1, 9, 1 << 20]))
def test_counts_equal_a_double_loop(
    sentences: list[list[int]], windows: Windows, threads: int, chunk: int
) -> None:
    told: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "CHUNK", chunk)
        patch.setattr(cooccurrence, "SHARES", 64 if chunk < 10 else 2)
        counts = count(*flat(sentences), WORDS, windows, threads, told.append)
    assert np.array_equal(dense(counts), plain(sentences, windows))
    assert sum(told) == sum(map(len, sentences))


def test_hand_computed() -> None:
    # a b c a | a c, window 2: (a, b) at 1 and 2; (a, c) at 2, 1 and 1; the two a of one sentence stand 3 apart
    full = dense(count(*flat([[0, 1, 2, 0], [0, 2]]), WORDS, Windows(2)))
    assert full[0, 1] == full[1, 0] == 1.5
    assert full[0, 2] == full[2, 0] == 2.5
    assert full[1, 2] == full[2, 1] == 1.0
    assert full.sum() == 10.0
    before = dense(count(*flat([[0, 1, 2, 0], [0, 2]]), WORDS, Windows(2, symmetric=False)))
    assert (before[0, 1], before[1, 0], before[2, 0], before[0, 2]) == (0.5, 1.0, 1.5, 1.0)


@pytest.mark.parametrize("size", [1, 255, 256, 1_000])
def test_windows_as_wide_as_wanted(size: int) -> None:
    ids = np.zeros(1_200, np.int32)  # one word: each pair within reach counts for both
    counts = count(ids, np.array([0, 1_200]), 1, Windows(size, distance_weighting=False))
    assert counts.values.tolist() == [2.0 * sum(1_200 - distance for distance in range(1, size + 1))]


def test_sums_do_not_stall_where_float32_would() -> None:
    ids = np.zeros(400_001, np.int32)
    near = Windows(64, symmetric=False)
    expected = sum((len(ids) - d) / d for d in range(1, 65))
    [value] = count(ids, np.array([0, len(ids)]), 1, near).values.tolist()
    assert value == pytest.approx(expected, rel=1e-7)


def test_a_text_on_disk_gives_the_same_and_the_order_of_threads_does_not_matter(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(cooccurrence, "CHUNK", 500)
    random = np.random.default_rng(3)
    ids = random.zipf(1.3, 5_000).clip(max=400).astype(np.int32) - 1
    starts = np.array([0, 7, 7, 2_000, 5_000])
    np.save(tmp_path / "ids.npy", ids)
    one = count(ids, starts, 400, Windows(15), 1)
    for other in (
        count(ids, starts, 400, Windows(15), 4),
        count(np.load(tmp_path / "ids.npy", "r"), starts, 400, Windows(15)),
    ):
        assert all(
            np.array_equal(getattr(one, part), getattr(other, part))
            for part in ("indptr", "columns", "values")
        )
    assert np.array_equal(dense(one, 400), dense(one, 400).T)
