"""fastText's skip-gram pair by pair, in variants: what makes omnivec's learn more than fastText's and gensim's.

    python benchmarks/words_fasttext_pairs.py [--megabytes 5] [--epochs 5] [--variant ...] [--seeds 1] [--out ...]

A plain loop over pairs of words, as fastText's program and gensim have it, in which one thing at a time is as there or
as here:

- which word of a pair gives its n-grams: the centre, or the word beside it, as in word2vec and here;
- negatives: drawn for each pair, or for each centre, as here; by counts to the power 0.75, or 0.5, as in fastText;
- whether a pair whose product is beyond 6 is passed over, as in gensim.

Beside them stand omnivec, gensim with one worker and fastText's own program with one thread. Text, settings and quality
are those of `words.py`.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

import machine
import words
import words_fasttext
from omnivec.tables.kernels import draws
from omnivec.tables.kernels.draws import advance, below, draw, first_state, thin
from omnivec.tables.kernels.fasttext import WordRows
from omnivec.tables.kernels.trees import Places
from omnivec.tables.kernels.windows import Sentences
from omnivec.tables.ngrams import char_ngrams
from omnivec.training.corpus import Corpus
from omnivec.training.recipes import fasttext
from omnivec.training.tables import uniform
from omnivec.types import Floats
from words import Task

DIM, WINDOW, NEGATIVE, RATE, LEAST = 100, 5, 5, 0.025, 0.0001


class Variant(NamedTuple):
    """How pairs are learned.

    Attributes:
        centre: whether the centre gives its n-grams; otherwise the words beside it do.
        shared: whether negatives are drawn for each centre, not for each pair.
        together: whether a centre's targets change once, by all words beside it, not after each pair.
        exponent: negatives are drawn by their counts to this power.
        passed: products beyond this, either way, are passed over; 0 for none.
    """

    centre: bool
    shared: bool
    together: bool = False
    exponent: float = 0.75
    passed: float = 0.0


VARIANTS = {
    "pairs as in gensim": Variant(True, False, passed=6.0),
    "none passed over": Variant(True, False),
    "none passed over, power 0.5": Variant(True, False, exponent=0.5),
    "words beside give n-grams": Variant(False, False),
    "words beside, shared negatives": Variant(False, True),
    "words beside, shared negatives, at once": Variant(False, True, together=True),
}


@numba.njit(nogil=True, fastmath=True)
def learn(
    text: Sentences, subwords: WordRows, inputs: Floats, outputs: Floats, alias: draws.Alias, how: Variant, epochs: int,
    seed: int,
) -> None:  # fmt: skip
    """Learns from all sentences, in each epoch, at a rate that falls with each sentence."""
    state, total = first_state(seed, 0), len(text.ids) * epochs
    kept = np.empty(np.diff(text.starts).max(), np.int32)
    targets, later = np.empty(NEGATIVE + 1, np.int64), np.zeros((NEGATIVE + 1, inputs.shape[1]), np.float32)
    for epoch in range(epochs):
        for s in range(len(text.starts) - 1):
            rate = RATE + (LEAST - RATE) * (epoch * len(text.ids) + text.starts[s]) / total
            count, state = thin(text.ids, text.starts[s], text.starts[s + 1], text.keep, state, kept)
            for i in range(count):
                state = advance(state)
                reach = below(state, WINDOW) + 1
                first = max(0, i - reach)
                for j in range(first, min(count, i + reach + 1)):
                    if j == i:
                        continue
                    word, targets[0] = (kept[i], kept[j]) if how.centre else (kept[j], kept[i])
                    if not how.shared or j == first or j == i + 1 == first + 1:
                        for t in range(1, NEGATIVE + 1):
                            state = advance(state)
                            targets[t] = draw(state, alias)
                    rows = subwords.rows[subwords.starts[word] : subwords.starts[word + 1]]
                    pair(inputs, outputs, rows, targets, later, how.passed, rate)
                    if not how.together:
                        change(outputs, targets, later)
                if how.together:
                    change(outputs, targets, later)


@numba.njit(nogil=True, fastmath=True)
def change(outputs: Floats, targets: Places, later: Floats) -> None:
    """Adds what targets are to change by, and forgets it."""
    for t in range(len(targets)):
        outputs[targets[t]] += later[t]
    later[:] = 0


@numba.njit(nogil=True, fastmath=True)
def pair(
    inputs: Floats,
    outputs: Floats,
    rows: NDArray[np.int32],
    targets: Places,
    later: Floats,
    passed: float,
    rate: float,
) -> None:
    """One step: the mean of some rows of the inputs against a word and its negatives, which change `later`."""
    dim = inputs.shape[1]
    hidden, moved = np.zeros(dim, np.float32), np.zeros(dim, np.float32)
    for row in rows:
        hidden += inputs[row]
    hidden /= np.float32(len(rows))
    for t in range(len(targets)):
        if t > 0 and targets[t] == targets[0]:
            continue
        output = outputs[targets[t]]
        product = np.float32(0)
        for d in range(dim):
            product += hidden[d] * output[d]
        if passed > 0 and abs(product) >= passed:
            continue
        error = np.float32(((1.0 if t == 0 else 0.0) - 1 / (1 + np.exp(-product))) * rate)
        for d in range(dim):
            moved[d] += error * output[d]
            later[t, d] += error * hidden[d]
    for row in rows:
        inputs[row] += moved


def pairwise(variant: Variant, corpus: Corpus, task: Task) -> words.Vectors:
    """What a variant learns."""
    count = len(corpus.words)
    buckets, ngrams = fasttext.used(char_ngrams(corpus.words, 3, 6, 2_000_000))
    subwords = WordRows(*fasttext.with_words(ngrams))
    inputs = np.ascontiguousarray(uniform((count + len(buckets), DIM), task.seed, fasttext.SPAN)[:, :DIM])
    outputs = np.zeros((count, DIM), np.float32)
    text = Sentences(corpus.ids, corpus.starts, draws.keep_table(corpus.counts, 1e-3))
    alias = draws.negatives_table(corpus.counts, variant.exponent)
    learn(text, subwords, inputs, outputs, alias, variant, task.epochs, task.seed)
    rows, starts = subwords
    return corpus.words, np.stack([inputs[rows[a:b]].mean(0) for a, b in itertools.pairwise(starts)])


def ours(corpus: Corpus, task: Task) -> words.Vectors:
    """What omnivec learns, at the same course of the rate."""
    found = words_fasttext.learned(corpus, task, lr=RATE, min_lr=LEAST)
    return found.words, found.vectors


def gensim(corpus: Corpus, task: Task) -> words.Vectors:
    """What gensim learns."""
    return words_fasttext.their_training(task, words_fasttext.their_model(task, sg=1))


def program(corpus: Corpus, task: Task) -> words.Vectors:
    """What fastText's own program learns; it takes no seed."""
    import fasttext as published

    model = published.train_unsupervised(
        str(task.text), model="skipgram", lr=RATE, dim=DIM, ws=WINDOW, epoch=task.epochs, minCount=5, neg=NEGATIVE,
        minn=3, maxn=6, t=1e-3, thread=1, verbose=0,
    )  # fmt: skip
    return corpus.words, np.stack([model.get_word_vector(word) for word in corpus.words])


def main() -> None:
    """Reads the arguments, learns, prints and writes."""
    ways: dict[str, Callable[[Corpus, Task], words.Vectors]] = {
        "omnivec": ours,
        "gensim": gensim,
        "fastText": program,
        **{name: partial(pairwise, variant) for name, variant in VARIANTS.items()},
    }
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--megabytes", type=int, default=5, help="of wiki17m")
    arguments.add_argument("--epochs", type=int, default=5)
    arguments.add_argument("--variant", nargs="+", choices=ways, default=list(ways))
    arguments.add_argument("--seeds", type=int, default=1)
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "words_fasttext_pairs.csv")
    asked = arguments.parse_args()
    content = machine.wikipedia(asked.megabytes)
    if content is None:
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_bytes(content)
        corpus = words.our_corpus(Task(text, 1, 1, 1))
        for variant in asked.variant:
            worth = [
                words.quality(*ways[variant](corpus, Task(text, asked.epochs, 1, seed)))
                for seed in range(1, asked.seeds + 1)
            ]
            key = {"variant": variant, "megabytes": asked.megabytes, "epochs": asked.epochs}
            rows.append({**key, "seeds": asked.seeds, **words.means(worth)})
            print(*list(rows[-1].values()), flush=True)
            machine.write_csv(asked.out, rows[-1:], (*key, "cpu"))


if __name__ == "__main__":
    main()
