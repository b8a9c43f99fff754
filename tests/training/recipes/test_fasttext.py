"""fastText: words used alike are alike, words never seen too; the same seed makes the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from omnivec import KeyedEmbedder

pytest.importorskip("numba")

import small_corpus
from omnivec.errors import UsageError
from omnivec.tables.ngrams import Ragged, char_ngrams, known
from omnivec.training.corpus import read_corpus
from omnivec.training.recipe_registry import recipes, train
from omnivec.training.recipes.fasttext import Options, fit, used

SMALL: dict[str, Any] = {"dim": 20, "epochs": 8, "lr": 0.05, "threads": 1, "sample": 0.0, "min_count": 1}


@pytest.fixture(scope="module")
def corpus():
    return read_corpus(small_corpus.sentences(), min_count=1, threads=1)


@pytest.mark.parametrize("given", [{"sg": True}, {"sg": False}, {"negative": 0}, {"max_n": 0}])
def test_words_used_alike_are_alike(corpus, given):
    found = fit(corpus, Options(**SMALL, **given))
    assert found.words == corpus.words and found.vectors.shape == (18, 20)
    within, between = small_corpus.together(found.vectors, found.words)
    assert within > between + 0.3
    assert not found.outcome.stopped and found.outcome.words == 8 * len(corpus.ids)


def test_a_word_that_was_never_seen_is_like_those_it_is_spelled_like(corpus):
    found = fit(corpus, Options(**SMALL))
    assert np.all(np.diff(found.buckets) > 0) and len(found.bucket_vectors) == len(found.buckets)
    new = ["horsey", "reddest"]
    ngrams = known(char_ngrams(new, 3, 6, 2_000_000), found.buckets)
    horsey, reddest = ngrams.means(found.bucket_vectors)
    for vector, like, unlike in ((horsey, "cow", "blue"), (reddest, "blue", "cow")):
        near, far = (found.vectors[found.words.index(word)] for word in (like, unlike))
        assert vector @ near / np.linalg.norm(near) > vector @ far / np.linalg.norm(far)


def test_a_seed_makes_the_same_bits_and_another_others(corpus):
    one, same, other = (fit(corpus, Options(**SMALL, seed=seed)) for seed in (3, 3, 4))
    assert one.vectors.tobytes() == same.vectors.tobytes()
    assert one.bucket_vectors.tobytes() == same.bucket_vectors.tobytes()
    assert one.vectors.tobytes() != other.vectors.tobytes()


def test_only_ngrams_of_the_words_have_rows():
    buckets, places = used(Ragged(np.array([9, 2, 9, 4], np.int32), np.array([0, 1, 4])))
    assert buckets.tolist() == [9, 2, 4]
    assert places.values.tolist() == [0, 1, 0, 2]


def test_progress_is_told(corpus, capsys):
    fit(corpus, Options(**{**SMALL, "epochs": 2}, show_progress_bar=True))
    told = capsys.readouterr().err
    assert "omnivec: epoch 2 of 2: loss " in told and "words/s, 0 s left" in told


def test_help_and_limits():
    assert all(
        option.help
        for name in ("fasttext", "fasttext_supervised", "doc2vec")
        for option in recipes()[name].options
    )
    with pytest.raises(UsageError, match="bucket=0: 1 to"):
        Options(bucket=0)


def test_what_is_trained_embeds_at_once(corpus):
    options = {**SMALL, "bucket": 5000, "epochs": 3}
    model = train("fasttext", small_corpus.sentences(), **options)
    assert isinstance(model, KeyedEmbedder)
    found = fit(corpus, Options(**options))
    np.testing.assert_allclose(model.vectors, found.vectors, atol=1e-6)
    assert model.encode("horsehorse").shape == (20,) and model.encode("horsehorse").any()
