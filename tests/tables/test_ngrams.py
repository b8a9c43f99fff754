"""Numbers of n-grams: fastText's own, and their rows in tables that have only some."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivec.tables.ngrams import Ragged, char_ngrams, known, word_hashes, word_ngrams

WORDS = ["the", "hello", "café", "naïve", "日本語", "a", "zürich", "😀", "unbelievable", "of", "'tis"]


@pytest.mark.parametrize(("min_n", "max_n", "bucket"), [(3, 6, 2_000_000), (1, 3, 1000), (2, 2, 50)])
def test_character_ngrams_are_numbered_as_fasttext_numbers_them(tmp_path, min_n, max_n, bucket):
    fasttext = pytest.importorskip("fasttext")
    file = tmp_path / "text.txt"
    file.write_text((" ".join(WORDS) + "\n") * 2, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Ten threads initialise a tenth each; with one, nine tenths stay as they were, and may be NaN.
        model = fasttext.train_unsupervised(
            str(file),
            minn=min_n,
            maxn=max_n,
            bucket=bucket,
            dim=10,
            minCount=1,
            epoch=1,
            verbose=0,
            thread=10,
        )
    words = [*WORDS, "unseen", "éé"]
    found = char_ngrams(words, min_n, max_n, bucket)
    own = len(model.get_words())
    for i, word in enumerate(words):
        expected = [number - own for number in model.get_subwords(word)[1] if number >= own]
        assert found.row(i).tolist() == expected, word


def test_no_ngrams():
    assert char_ngrams([], 3, 6, 10).starts.tolist() == [0]
    assert char_ngrams(["ab", "c"], 3, 0, 10).starts.tolist() == [0, 0, 0]


def test_word_ngrams_by_hand():
    hashes = word_hashes(["a", "b", "é"])
    # FNV-1a of one byte, and of two above 127, which count as negative; then as a signed 32-bit number.
    a = (2166136261 ^ ord("a")) * 16777619 % 2**32
    e = ((2166136261 ^ 0xFFFFFFC3) * 16777619 % 2**32 ^ 0xFFFFFFA9) * 16777619 % 2**32
    signed = [x - 2**32 if x >= 2**31 else x for x in (a, e)]
    assert hashes[[0, 2]].view(np.int64).tolist() == signed
    one, two, three = hashes.tolist()
    bigrams = [(x * 116049371 + y) % 2**64 for x, y in ((one, two), (two, three))]
    trigram = (bigrams[0] * 116049371 + three) % 2**64
    found = word_ngrams(hashes[[0, 1, 2, 0]], np.array([0, 3, 3, 4]), 3, 999)
    assert found.starts.tolist() == [0, 3, 3, 3]
    assert found.values.tolist() == [bigrams[0] % 999, trigram % 999, bigrams[1] % 999]


def test_known_ones_have_places():
    found = known(
        Ragged(np.array([5, 9, 7, 5, 1], np.int32), np.array([0, 2, 2, 5])), np.array([1, 5, 7], np.int32)
    )
    assert [found.row(i).tolist() for i in range(3)] == [[1], [], [2, 1, 0]]


@given(st.lists(st.lists(st.integers(0, 8), max_size=5), max_size=6), st.data())
def test_ragged_rows(rows, data):
    starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    ragged = Ragged(np.fromiter(itertools.chain.from_iterable(rows), np.int32), starts)
    some = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
    taken = ragged.take(np.array(some, np.int64))
    assert [taken.row(i).tolist() for i in range(len(some))] == [rows[i] for i in some]
    table = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    expected = np.array([table[row].mean(0) if row else np.zeros(3) for row in rows]).reshape(-1, 3)
    np.testing.assert_allclose(ragged.means(table), expected, atol=1e-6)
