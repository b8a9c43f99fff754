"""fastText: omnivec against gensim and fastText's own program: speed, quality, words never seen, labels of texts.

    python benchmarks/words_fasttext.py [--mb 10] [--threads 1] [--repetitions 3] [--epochs 5] [--out ...]

Words: wiki17m, dim 100, window 5, 5 negatives, n-grams of 3 to 6, as `words.py` measures them; on one thread each: each
of gensim's several lets the learning rate fall by its own share of the words alone. Words never seen: those of
WordSim-353 and SimLex-999 of which every third is left out of the text; the correlation is over pairs with at least one
of them, none of which a table of words alone could judge. Labels: accuracy in percent, means over seeds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import machine
import words
import words_doc2vec
from omnivec.evaluation.word_similarity import read_pairs, score_pairs
from omnivec.tables.ngrams import char_ngrams, known
from omnivec.training.corpus import read_corpus
from omnivec.training.labelled import Labelled
from omnivec.training.recipes import fasttext, fasttext_supervised
from words import Side, Task

PAIRS = {"wordsim": "EN-WS-353-ALL.txt", "simlex": "EN-SIMLEX-999.txt"}
SEEDS = (1, 2, 3)


def learned(corpus: Any, task: Task, **given: Any) -> fasttext.FastTextVectors:
    """What omnivec learns."""
    return fasttext.fit(
        corpus, fasttext.Options(epochs=task.epochs, threads=task.threads, seed=task.seed, **given)
    )


def ours(**given: Any) -> Side:
    """FastText of omnivec."""

    def work(task: Task, corpus: Any) -> words.Vectors:
        found = learned(corpus, task, **given)
        return found.words, found.vectors

    return Side(words.our_corpus, work)


def their_model(task: Task, **given: Any) -> Any:
    """gensim's model with its vocabulary, not trained."""
    from gensim.models import FastText

    model = FastText(
        vector_size=100,
        window=5,
        min_count=5,
        workers=task.threads,
        seed=task.seed,
        epochs=task.epochs,
        **given,
    )
    model.build_vocab(corpus_file=str(task.text))
    return model


def their_training(task: Task, model: Any) -> words.Vectors:
    """Trains gensim's model."""
    model.train(
        corpus_file=str(task.text),
        total_examples=model.corpus_count,
        total_words=model.corpus_total_words,
        epochs=task.epochs,
    )
    return model.wv.index_to_key, model.wv.vectors


PARTS: dict[str, words.Part] = {
    "fasttext": {words.OURS: ours(), words.THEIRS: Side(partial(their_model, sg=1), their_training)},
    "fasttext-cbow": {
        words.OURS: ours(sg=False, lr=0.025),
        words.THEIRS: Side(partial(their_model, sg=0), their_training),
    },
}


def unseen(text: Path, folder: Path, epochs: int, threads: int) -> list[dict[str, Any]]:
    """How pairs with a word that was left out of the text are ranked, by both."""
    pairs = {name: read_pairs(_data("word_similarity", file)) for name, file in PAIRS.items()}
    asked = sorted(
        {word.lower() for each in pairs.values() for pair in each for word in (pair.one, pair.other)}
    )
    hidden = set(asked[::3])
    without = folder / "without.txt"
    with text.open(encoding="utf-8", errors="ignore") as lines, without.open("w", encoding="utf-8") as file:
        file.writelines(
            " ".join(word for word in line.split() if word not in hidden) + "\n" for line in lines
        )
    task = Task(without, epochs, threads, 1)
    own = learned(read_corpus(without), task)
    model = their_model(task, sg=1)
    their_training(task, model)
    ngrams = known(char_ngrams(asked, 3, 6, 2_000_000), own.buckets).means(own.bucket_vectors)
    place = {word: i for i, word in enumerate(own.words)}
    tables = {
        "omnivec": np.stack([own.vectors[place[w]] if w in place else ngrams[i] for i, w in enumerate(asked)]),
        "gensim": np.stack([model.wv[word] for word in asked]),
    }  # fmt: skip
    rows = []
    for name, each in pairs.items():
        some = [pair for pair in each if {pair.one.lower(), pair.other.lower()} & hidden]
        for program, table in tables.items():
            found = score_pairs(asked, table, some)
            rows.append(
                {
                    "part": f"unseen {name}",
                    "program": program,
                    "epochs": epochs,
                    "value": round(100 * found.spearman, 2),
                    "of": found.pairs,
                }
            )
    return rows


def labels(folder: Path, **given: Any) -> list[dict[str, Any]]:
    """Accuracies of omnivec and of fastText's own program."""
    rows = []
    for which in words_doc2vec.SETS:
        train, held, gold, right = words_doc2vec.split(which)
        texts = [
            Labelled(" ".join(text), str(label)) for text, label in zip(train, gold.tolist(), strict=True)
        ]
        asked = [" ".join(text) for text in held]
        file = folder / "labelled.txt"
        file.write_text("".join(f"__label__{one.label} {one.text}\n" for one in texts), encoding="utf-8")
        taken: dict[str, list[tuple[float, float]]] = {"omnivec": [], "fasttext": []}
        for seed, program in ((seed, program) for seed in SEEDS for program in taken):
            call = own_labels if program == "omnivec" else fasttext_labels
            found, spent = machine.spent(partial(call, texts, file, asked, seed, **given))
            if found:
                taken[program].append((100 * float(np.mean(np.array(found) == right.astype(str))), spent.cpu))
        for program, values in taken.items():
            value, cpu = (round(statistics.mean(column), 2) for column in zip(*values, strict=True))
            options = ", ".join(f"{name}={value}" for name, value in given.items())
            rows.append(
                {
                    "part": f"labels {which} {options}",
                    "program": program,
                    "epochs": given.get("epochs", 5),
                    "value": value,
                    "cpu_s": cpu,
                    "of": len(right),
                }
            )
    return rows


def own_labels(texts: Sequence[Labelled], file: Path, asked: list[str], seed: int, **given: Any) -> list[str]:
    """Trained and predicted with omnivec."""
    model = fasttext_supervised.fit(texts, fasttext_supervised.Options(seed=seed, **given))
    table = fasttext_supervised.embedder(model, fasttext_supervised.Options(seed=seed, **given))
    return [best[0][0] for best in table.predict(asked)]


def fasttext_labels(
    texts: Sequence[Labelled], file: Path, asked: list[str], seed: int, **given: Any
) -> list[str]:
    """Trained and predicted with fastText; nothing where it gives up ("Encountered NaN", now and then)."""
    import fasttext as program

    try:
        model = program.train_supervised(
            str(file), seed=seed, thread=machine.cores(), verbose=0, epoch=given.get("epochs", 5),
            wordNgrams=given.get("word_ngrams", 1), minn=0, maxn=0,
        )  # fmt: skip
    except RuntimeError:
        return []
    # Its own `predict` makes an array in a way that NumPy 2 refuses.
    return [model.f.predict(text + "\n", 1, 0.0, "strict")[0][1].removeprefix("__label__") for text in asked]


def _data(*parts: str) -> Path:
    path = machine.data(*parts)
    if path is None:
        raise SystemExit(f"{parts[0]} is not in the data folder")
    return path


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--mb", type=int, default=10, help="of wiki17m")
    arguments.add_argument("--threads", type=int, default=1, help="of each, in the parts of words")
    arguments.add_argument(
        "--repetitions", type=int, default=3, help="in the parts of words, each with its seed"
    )
    arguments.add_argument("--epochs", type=int, default=5, help="of the words")
    arguments.add_argument("--unseen-epochs", type=int, default=5, help="0 leaves words never seen out")
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "words_fasttext.csv")
    asked = arguments.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text, warm = folder / "text.txt", folder / "warm.txt"
        with text.open("w", encoding="utf-8") as file:
            size = 0
            for article in machine.articles(_data("wiki17m", "wiki17m_docs.txt.bz2")):
                size += file.write(article + "\n") if size < asked.mb * 10**6 else 0
        warm.write_text("a b c d e f g h\n" * 100, encoding="utf-8")
        task, small = (Task(path, asked.epochs, asked.threads, 1) for path in (text, warm))
        total = words.our_corpus(task).total
        for part, sides in PARTS.items():
            sides[words.OURS].work(small, sides[words.OURS].prepare(small))
            rows += words.measured(part, sides, task, asked.repetitions, total)
            machine.print_table(rows[-len(sides) :], list(rows[0]))
        rest = labels(folder) + labels(folder, word_ngrams=2, epochs=10)
        if asked.unseen_epochs:
            rest += unseen(text, folder, asked.unseen_epochs, asked.threads)
        rest = [
            dict.fromkeys(("part", "program", "epochs", "value", "cpu_s", "of"), "") | row for row in rest
        ]
        machine.print_table(rest, list(rest[0]))
    columns = dict.fromkeys([*rows[0], *rest[0]], "")
    machine.write_csv(asked.out, [columns | row for row in (*rows, *rest)])


if __name__ == "__main__":
    main()
