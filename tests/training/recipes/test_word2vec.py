"""The recipe: what it learns, the same bits for the same seed, interruption, beginning from a model."""

from __future__ import annotations

import bz2
import json
from dataclasses import fields

import numpy as np
import pytest

pytest.importorskip("numba")

import omnivec
from omnivec.errors import ModelError, UsageError
from omnivec.training import recipe_registry
from omnivec.training.corpus import read_corpus
from omnivec.training.passes import _shards
from omnivec.training.recipes.word2vec import Epoch, Options, fit, read
from omnivec.training.tables import schedule_of

MODES = [{}, {"sg": False}, {"hs": True}, {"hs": True, "sg": False}]


def groups(count=1500, seed=0):
    """Sentences of words of one of two kinds."""
    random = np.random.default_rng(seed)
    kinds = [[f"{kind}{i}" for i in range(8)] for kind in "ab"]
    return [random.choice(kinds[i % 2], 8).tolist() for i in range(count)]


@pytest.fixture(scope="module")
def corpus():
    return read_corpus(groups())


def options(**given):
    return Options(**{"dim": 16, "epochs": 5, "sample": 0.0, "threads": 1, **given})


@pytest.mark.parametrize("mode", MODES)
def test_words_that_stand_together_come_together(corpus, mode):
    trained = fit(corpus, options(**mode))
    vectors = trained.vectors / np.linalg.norm(trained.vectors, axis=1, keepdims=True)
    kinds = np.array([word[0] for word in trained.words])
    same = kinds[:, None] == kinds
    cosines = vectors @ vectors.T
    assert trained.vectors.shape == (16, 16) and trained.vectors.dtype == np.float32
    assert cosines[same].mean() > cosines[~same].mean() + 0.3
    assert (trained.words, trained.counts.tolist()) == (corpus.words, corpus.counts.tolist())


@pytest.mark.parametrize("mode", MODES)
def test_one_thread_and_a_seed_make_the_same_bits(corpus, mode):
    one, same, other = (fit(corpus, options(epochs=1, seed=seed, **mode)) for seed in (1, 1, 2))
    assert one.vectors.tobytes() == same.vectors.tobytes()
    assert one.outputs.tobytes() == same.outputs.tobytes()
    assert one.vectors.tobytes() != other.vectors.tobytes()
    assert one.outcome.loss == same.outcome.loss


def test_the_loss_falls_from_epoch_to_epoch(corpus):
    seen: list[Epoch] = []
    fit(corpus, options(on_epoch=seen.append))
    losses = [epoch.loss for epoch in seen]
    assert [(epoch.number, epoch.of) for epoch in seen] == [(i, 5) for i in range(1, 6)]
    assert losses[0] > losses[1] > losses[-1]
    assert losses[0] < 6 * np.log(2)  # what telling one word from five negatives costs who knows nothing


def test_interruption_keeps_what_was_learned(corpus, capsys):
    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    trained = fit(corpus, options(on_epoch=stop, epochs=50))
    assert trained.outcome.stopped
    assert np.abs(trained.vectors).max() > 1 / 16  # beyond what it began with
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "epochs and" in said and "of the next are learned, and kept" in said


def test_several_threads_learn_as_much(corpus):
    one, three = (fit(corpus, options(threads=threads)) for threads in (1, 3))
    assert three.outcome.words == one.outcome.words == 5 * len(corpus.ids)
    assert three.outcome.loss == pytest.approx(one.outcome.loss, rel=0.05)


def test_a_model_is_continued_with_new_words_added(corpus):
    known = {"a0": np.full(16, 0.5, np.float32), "elsewhere": np.full(16, 2, np.float32)}
    trained = fit(corpus, options(lr=1e-9, min_lr=1e-9), known)
    assert trained.words == [*corpus.words, "elsewhere"]
    assert trained.counts[-1] == 0
    place = trained.words.index("a0")
    np.testing.assert_allclose(trained.vectors[[place, -1]], list(known.values()), atol=1e-6)
    new = np.delete(trained.vectors, [place, len(trained.words) - 1], axis=0)
    assert 0.06 < np.abs(new).max() <= 1 / 16 + 1e-6  # as they began: from -1 / dim to 1 / dim


def test_phrases_become_words(tmp_path):
    text = [["new", "york", "is", f"big{i % 3}"] for i in range(40)] + [["york", "new"]] * 20
    path = recipe_registry.train("phrases", text, threshold=1.0).save(tmp_path / "phrases.txt")
    corpus = read(text, options(phrases=path))
    assert "new_york" in corpus.words
    assert corpus.counts[corpus.words.index("new_york")] == 40
    assert corpus.counts[corpus.words.index("york")] == 20


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ([["a"] * 9], "only 'a' is frequent enough"),
        ([["a"]] * 9 + [["b"]] * 9, "none of the 18 sentences has two words"),
    ],
)
def test_a_text_that_teaches_nothing(text, why):
    with pytest.raises(UsageError, match=why):
        fit(read_corpus(text), options())


def test_numbers_that_overflow_are_an_error(corpus):
    with pytest.raises(ModelError, match=r"vectors are not finite.* at lr=1e\+30: use a smaller lr"):
        fit(corpus, options(lr=1e30, min_lr=1e30))


@pytest.mark.parametrize(
    "given",
    [
        {"dim": 0},
        {"window": 0},
        {"sample": 2.0},
        {"epochs": 0},
        {"threads": 0},
        {"min_lr": 0.5},
        {"seed": -1},
    ],
)
def test_options_outside_their_limits(given):
    with pytest.raises(UsageError, match=f"{next(iter(given))}="):
        Options(**given)


def test_the_usual_learning_rate_is_word2vecs_for_each_model(corpus):
    assert [Options(sg=sg).rate for sg in (1, 0)] == [0.025, 0.05]
    assert Options(sg=0, lr=0.01).rate == 0.01
    usual, asked, other = (
        fit(corpus, options(sg=0, **given)).vectors for given in ({}, {"lr": 0.05}, {"lr": 0.025})
    )
    assert np.array_equal(usual, asked) and not np.array_equal(usual, other)


@pytest.mark.parametrize(
    ("given", "words", "least"),
    [
        ({}, 400_000, 0.025),  # 12 million predictions: 400,000 words, 5 epochs, 6 of each word on average
        ({}, 1_000_000, 0.01),  # 30 million: to 12 / 30
        ({"epochs": 2}, 1_000_000, 0.025),
        ({"epochs": 1, "window": 11}, 1_000_000, 0.025),
        ({"epochs": 1, "window": 11}, 2_000_000, 0.0125),
        ({"sg": 0}, 2_400_000, 0.05),  # of each word one
        ({"sg": 0}, 9_600_000, 0.0125),
        ({"sg": 0, "lr": 0.025}, 9_600_000, 0.00625),
        ({"hs": True}, 1_000_000, 0.0001),
        ({"negative": 0}, 1_000_000, 0.0001),
        ({}, 1_000_000_000, 0.0001),
        ({"lr": 1e-6}, 1_000_000_000, 1e-6),
        ({"min_lr": 0.0}, 1_000, 0.0),
        ({"min_lr": 0.0125}, 1_000_000_000, 0.0125),
    ],
)
def test_the_rate_falls_less_far_where_little_is_learned(given, words, least):
    assert Options(**given).least(words, 12_000) == pytest.approx(least)


def test_a_small_vocabulary_has_learned_enough_sooner():
    assert Options().least(1_000_000, 6_000) == pytest.approx(0.005)  # 6 of 30 million
    assert Options().least(1_000_000, 100_000) == pytest.approx(0.01)
    assert Options().least(100_000, 2) == pytest.approx(0.0001)


def test_rates_of_a_training_of_some_length():
    """960,000 words in 5 epochs, 28.8 million predictions: in a straight line to 12 / 28.8 of the first rate."""
    starts = np.arange(0, 960_001, 100)
    rates = [piece.lr for piece in _shards(starts, schedule_of(Options(threads=1), 960_000, 20_000))]
    assert len(rates) == 5 * 64 and rates[0] == 0.025
    assert rates[160] == pytest.approx(0.025 * (1 + 12 / 28.8) / 2)
    np.testing.assert_allclose(np.diff(rates), 0.025 * (12 / 28.8 - 1) / 320, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "least"), [({}, 0.025), ({"epochs": 10}, 0.025 * 16 / 48), ({"min_lr": 0.001}, 0.001)]
)
def test_a_saved_table_says_what_the_rate_fell_to(given, least, tmp_path):
    """Of 800 words, 16 of them different: 4,800 predictions in an epoch."""
    given = {"dim": 8, "epochs": 1, "threads": 1, **given}
    model = recipe_registry.train("word2vec", groups(100), **given)
    assert model.training.options["min_lr"] == pytest.approx(least)
    folder = model.save(tmp_path / "words")
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"] == {"lr": 0.025, "min_lr": pytest.approx(least)}
    config["settings"] = {}  # as before it said so
    (folder / "config.json").write_text(json.dumps(config))
    again = omnivec.load(folder)
    assert isinstance(again, omnivec.KeyedEmbedder) and isinstance(model, omnivec.KeyedEmbedder)
    assert np.array_equal(again.vectors, model.vectors)


def test_every_option_is_described_without_importing_the_recipe():
    recipe = recipe_registry.recipes()["word2vec"]
    assert [option.name for option in recipe.options] == [field.name for field in fields(Options)]
    assert all(option.help for option in recipe.options)
    recipe.check({"sg": 1, "hs": True, "phrases": "x", "threads": 2})


def test_real_text_makes_vectors_that_agree_with_people(data_folder, tmp_path):
    from omnivec.evaluation.word_similarity import read_pairs, score_pairs

    source, people = (
        data_folder / name for name in ("wiki17m/wiki17m_docs.txt.bz2", "word_similarity/EN-WS-353-ALL.txt")
    )
    if not (source.exists() and people.exists()):
        pytest.skip("wiki17m and word_similarity are not in the data folder")
    with bz2.open(source) as file:
        (tmp_path / "text.txt").write_bytes(file.read(5_000_000))
    corpus = read(tmp_path / "text.txt", Options())
    assert len(corpus.words) > 5000
    pairs = read_pairs(people)

    def agreement(**given):
        trained = fit(corpus, Options(threads=2, **given))
        return score_pairs(trained.words, trained.vectors, pairs).spearman

    # gensim 4.4 with two workers, whose rate falls to a tenth of the first: 0.315.
    assert agreement() > 0.35
    assert agreement(min_lr=0.0001) < 0.35
