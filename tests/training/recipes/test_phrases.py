"""Phrases: the same as gensim finds, several passes, a file that keeps them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from omnivec.errors import UsageError
from omnivec.training.corpus import read_corpus
from omnivec.training.recipes import phrases
from omnivec.training.recipes.phrases import Options, Phrases


def text(count=3000, seed=0):
    """Words drawn by rank, some of which like to meet."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, 41)
    drawn = random.choice(40, (count, 12), p=shares / shares.sum())
    for first, second in ((30, 31), (3, 35), (20, 20)):
        rows = random.integers(0, count, 80)
        drawn[rows, 4], drawn[rows, 5] = first, second
    return [[f"w{i}" for i in row] for row in drawn.tolist()]


@pytest.mark.parametrize("threshold", [0.05, 0.3])
def test_the_default_score_is_gensims(threshold):
    gensim = pytest.importorskip("gensim.models.phrases")
    sentences = text()
    theirs = gensim.Phrases(sentences, min_count=5, threshold=threshold)
    # gensim multiplies by the number of different words and pairs, word2phrase by the number of words.
    scale = sum(map(len, sentences)) / len(theirs.vocab)
    found = phrases.run(sentences, Options(threshold=threshold * scale))
    expected = {tuple(pair.split("_")): score * scale for pair, score in theirs.export_phrases().items()}
    assert len(expected) >= 2
    assert found.passes[0] == pytest.approx(expected)
    assert [found.words(each) for each in sentences] == [theirs[each] for each in sentences]


def test_npmi_is_gensims():
    gensim = pytest.importorskip("gensim.models.phrases")
    sentences = text()
    theirs = gensim.Phrases(sentences, min_count=5, threshold=0.2, scoring="npmi")
    found = phrases.run(sentences, Options(scoring="npmi", threshold=0.2))
    expected = {tuple(pair.split("_")): score for pair, score in theirs.export_phrases().items()}
    assert len(expected) >= 2
    assert found.passes[0] == pytest.approx(expected)


def test_a_second_pass_makes_phrases_of_phrases():
    sentences = [["new", "york", "times", f"x{i % 7}", f"y{i % 5}"] for i in range(70)]
    once, twice = (phrases.run(sentences, Options(threshold=3.0, passes=passes)) for passes in (1, 2))
    assert "new_york_times" not in once.words("the new york times")
    assert twice.words("the new york times") == ["the", "new_york_times"]


WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


@settings(deadline=None)
@given(
    st.lists(WORDS, min_size=1, max_size=6).filter(any), st.sets(st.tuples(*[st.sampled_from("abcd")] * 2))
)
def test_a_corpus_is_joined_as_its_sentences_are(sentences, pairs):
    found = Phrases((dict.fromkeys(sorted(pairs), 1.0), {("a_b", "c"): 1.0}))
    joined = found.join(read_corpus(sentences, min_count=1))
    expected = read_corpus([found.words(each) for each in sentences], min_count=1)
    assert joined.words == expected.words
    np.testing.assert_array_equal(joined.counts, expected.counts)
    np.testing.assert_array_equal(joined.ids, expected.ids)
    np.testing.assert_array_equal(joined.starts, expected.starts)


def test_a_file_keeps_them(tmp_path):
    found = Phrases(({("new", "york"): 12.5, ("ß", "語"): 1e-7}, {("new+york", "times"): 3.0}), "+")
    kept = phrases.load(found.save(tmp_path / "phrases.txt"))
    assert kept == found
    assert len(kept) == 3
    assert phrases.load(Phrases(()).save(tmp_path / "none.txt")) == Phrases(())


def test_what_cannot_be_kept_or_read(tmp_path):
    with pytest.raises(UsageError, match="a tab or a line feed"):
        Phrases(({("a\tb", "c"): 1.0},)).save(tmp_path / "phrases.txt")
    assert not (tmp_path / "phrases.txt").exists()
    (tmp_path / "other.txt").write_text("some text\n")
    with pytest.raises(UsageError, match="is not a file of phrases"):
        phrases.load(tmp_path / "other.txt")
    (tmp_path / "broken.txt").write_text("omnivec phrases\t_\n1\ta\tb\n")
    with pytest.raises(UsageError, match="line 2"):
        phrases.load(tmp_path / "broken.txt")
    with pytest.raises(UsageError, match="cannot be read"):
        phrases.load(tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    "given", [{"scoring": "chance"}, {"delimiter": " "}, {"min_count": 0}, {"passes": 0}]
)
def test_options_that_cannot_be_meant(given):
    with pytest.raises(UsageError, match=f"{next(iter(given))}="):
        Options(**given)
