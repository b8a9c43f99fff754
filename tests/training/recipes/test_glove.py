"""Words of one topic come near each other; seeds, interruptions and wrong options."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from omnivec import progress

pytest.importorskip("numba")

from omnivec.errors import ModelError, UsageError
from omnivec.training.corpus import Corpus, read_corpus
from omnivec.training.recipe_registry import recipes, train
from omnivec.training.recipes import glove
from omnivec.training.recipes.glove import Options, fit

TOPICS = (
    ("bread", "butter", "flour", "oven", "yeast"),
    ("anchor", "harbour", "mast", "sail", "wave"),
)


def sentences(count: int = 400) -> list[list[str]]:
    """Of one topic each, but for one in ten, of both: pairs that never occur are not learned from."""
    random = np.random.default_rng(1)
    drawn = (TOPICS[i % 2] if i % 10 else random.choice(sum(TOPICS, ()), 5, False) for i in range(count))
    return [[*random.permutation(words).tolist(), "the", "of"] for words in drawn]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read_corpus(sentences(), threads=1)


SMALL: dict[str, Any] = {"dim": 12, "window": 4, "x_max": 10.0, "epochs": 40, "threads": 1}


def test_words_of_a_topic_are_near(corpus: Corpus) -> None:
    fitted = fit(corpus, Options(**SMALL))
    assert fitted.vectors.shape == (12, 12) and fitted.vectors.dtype == np.float32
    assert len(fitted.costs) == 40 and fitted.costs[-1] < 0.2 * fitted.costs[0]
    assert not fitted.stopped
    unit = fitted.vectors / np.linalg.norm(fitted.vectors, axis=1, keepdims=True)
    topic = {word: i for i, words in enumerate(TOPICS) for word in words}
    rows = [i for i, word in enumerate(corpus.words) if word in topic]
    near = unit[rows] @ unit[rows].T
    same = np.array([[topic[corpus.words[i]] == topic[corpus.words[j]] for j in rows] for i in rows])
    others = same & ~np.eye(len(rows), dtype=bool)
    assert near[others].min() > near[~same].max()


def test_counts_are_those_of_the_options(corpus: Corpus) -> None:
    both = glove.count(corpus, Options(**SMALL))
    before = glove.count(corpus, Options(**SMALL, symmetric=False))
    plain = glove.count(corpus, Options(**SMALL, symmetric=False, distance_weighting=False))
    pairs = 400 * (6 + 5 + 4 + 3)  # of seven words, those at distance 1 to 4
    assert plain.values.sum() == pairs
    assert both.values.sum() == pytest.approx(2 * before.values.sum(), rel=1e-6)
    assert before.values.sum() == pytest.approx(400 * (6 + 5 / 2 + 4 / 3 + 3 / 4), rel=1e-6)


def test_a_seed_makes_the_vectors(corpus: Corpus) -> None:
    first, again, other = (fit(corpus, Options(**{**SMALL, "epochs": 3}, seed=seed)) for seed in (0, 0, 1))
    assert np.array_equal(first.vectors, again.vectors) and first.costs == again.costs
    assert not np.array_equal(first.vectors, other.vectors)
    alone = fit(corpus, Options(**{**SMALL, "epochs": 3}, add_contexts=False))
    assert not np.allclose(first.vectors, alone.vectors)


class Interrupted(nullcontext[Any]):
    """Ctrl-C when so many entries are learned."""

    def __init__(self, at: int) -> None:
        super().__init__(self)
        self.left = at

    def advance(self, n: int) -> None:
        self.left -= n
        if self.left <= 0:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_what_was_learned(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = len(glove.count(corpus, Options(**SMALL)))
    after_three = fit(corpus, Options(**{**SMALL, "epochs": 3}))
    counts = glove.count(corpus, Options(**SMALL))
    monkeypatch.setattr(progress, "bar", lambda *_: Interrupted(3 * entries))
    fitted = glove.factorise(counts, Options(**SMALL))
    assert fitted.stopped
    assert fitted.costs == after_three.costs
    assert np.array_equal(fitted.vectors, after_three.vectors)
    said = "omnivec: stopped: 3 of 40 epochs and 0% of the next are learned, and kept\n"
    assert capsys.readouterr().err == said


def test_ctrl_c_before_anything_is_learned_is_an_interruption(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = glove.count(corpus, Options(**SMALL))
    monkeypatch.setattr(progress, "bar", lambda *_: Interrupted(1))

    def stop(report: object, one: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(glove._CostReport, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        glove.factorise(counts, Options(**SMALL))


def test_progress_tells_cost_rate_and_time_left(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    fitted = fit(corpus, Options(**{**SMALL, "epochs": 2}, show_progress_bar=True))
    told = [line for line in capsys.readouterr().err.splitlines() if "epoch" in line]
    last = told[-1]
    assert f"epoch 2 of 2: cost {fitted.costs[-1]:.4f}, " in last
    assert "entries/s, 0 s left" in last


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim=0: 1 to 65536"),
        ({"window": 0}, "window=0: 1 to 10000"),
        ({"x_max": 0.0}, "x_max=0.0: at least 0.001"),
        ({"alpha": -1.0}, "alpha=-1.0: at least 0.0"),
        ({"lr": float("nan")}, "lr=nan: "),
        ({"epochs": 0}, "epochs=0: at least 1"),
        ({"threads": 0}, "threads=0: at least 1"),
        ({"min_count": 0}, "min_count=0: at least 1"),
        ({"symmetric": 1}, "symmetric=1: glove takes bool here"),
        ({"windows": 5}, r"glove has no option 'windows' \(the nearest is 'window'\)"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        train("glove", sentences(), **options)
    assert "\n" not in str(raised.value)


def test_the_recipe_is_described() -> None:
    recipe = recipes()["glove"]
    assert "GloVe" in recipe.summary
    assert all(option.help for option in recipe.options)


def test_words_alone_in_their_sentences_are_an_error() -> None:
    alone = read_corpus([["one"], ["two"], ["one"]], min_count=1, threads=1)
    with pytest.raises(UsageError, match="none of the 3 sentences has two words: give longer ones"):
        fit(alone, Options(min_count=1))


def test_a_rate_that_is_too_high_is_said(corpus: Corpus) -> None:
    with pytest.raises(ModelError, match=r"epoch \d+: cost .* at lr=1e\+30: use a smaller lr"):
        fit(corpus, Options(**SMALL, lr=1e30))
