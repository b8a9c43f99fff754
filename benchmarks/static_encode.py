"""A static model, from strings to vectors: omnivec against model2vec, one table, one tokenizer, the same cores.

    python benchmarks/static_encode.py [--texts 100000] [--repetitions 3] [--out benchmarks/results/static_encode.csv]

Passages of about a hundred tokens, none seen before, nothing remembered from an earlier call. Engines take turns.
Ratios are medians over the repetitions of (model2vec's better way / engine): above 1 is faster. On a shared machine
trust `ratio_cpu`, of CPU seconds of the whole process. The table is random: speed does not hang on its numbers.
"""

from __future__ import annotations

import argparse
import ast
import csv
import statistics
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel
from numpy.typing import NDArray

import machine
import omnivec
from machine import Spent, significant
from omnivec import hub
from omnivec.inputs.text.tokenizer import Tokenizer, load_tokenizer
from omnivec.models import registry
from omnivec.tables.fast_tokens import FastTokenizer

DIM = 256
WORDS = 80
PEERS = ("model2vec", "model2vec, one call a batch")
COLUMNS = (
    "set",
    "engine",
    "texts",
    "tokens",
    "cpu_s",
    "wall_s",
    "m_tokens_per_cpu_s",
    "ratio_cpu",
    "ratio_wall",
)

Encode = Callable[[list[str]], NDArray[np.float32]]


def wiki(count: int) -> Iterator[str]:
    """Lower-case passages of Wikipedia, letters and blanks only."""
    path = machine.data("wiki17m", "wiki17m_docs.txt.bz2")
    if path is None:
        return
    passages = (
        " ".join(words[i : i + WORDS])
        for words in map(str.split, machine.articles(path))
        for i in range(0, len(words) - WORDS, WORDS)
    )
    yield from islice(passages, count)


def english(count: int) -> Iterator[str]:
    """Passages with capitals, digits, punctuation and now and then an accent; each is given once."""
    yield from islice(dict.fromkeys(_english()), count)


def _english() -> Iterator[str]:
    for name in ("train.csv", "test.csv"):
        if path := machine.data("banking77", name):
            with path.open(encoding="utf-8") as file:
                yield from (row[0] for row in csv.reader(file))
    for name in ("train", "dev", "test"):
        if path := machine.data("stsbenchmark", f"stsb-en-{name}.csv"):
            with path.open(encoding="utf-8") as file:
                yield from (" ".join(row[:2]) for row in csv.reader(file))
    if folder := machine.data("sentence_classification"):
        for path in sorted(folder.iterdir()):
            yield from path.read_text(encoding="utf-8", errors="replace").splitlines()
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        yield from _docstrings(path)


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    yield from filter(None, (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)))


SETS = {"wiki, lower case": wiki, "English": english}


def engines(folder: Path, threads: int, calls: int) -> dict[str, Encode]:
    """Each with its settings; model2vec's own threads are what it takes by itself for many texts.

    Nothing is cut: model2vec cuts characters before tokens, so that a limit means another thing there. Of omnivec each
    call has a model of its own, loaded before, so that nothing is remembered.
    """
    peer = StaticModel.from_pretrained(folder, force_download=False)

    def ours(threads: int) -> Encode:
        models = [omnivec.load(folder, threads=threads) for _ in range(calls)]

        def encode(texts: list[str]) -> NDArray[np.float32]:
            encoded = models.pop().run(texts)
            vectors = np.zeros(
                (len(texts), DIM), np.float32
            )  # model2vec's for a text that it sees nothing of
            vectors[encoded.kept] = encoded.vectors
            return vectors

        return encode

    return {
        PEERS[0]: lambda texts: peer.encode(texts, max_length=None),
        PEERS[1]: lambda texts: peer.encode(texts, max_length=None, use_multiprocessing=False),
        "omnivec": ours(threads),
        "omnivec, 1 thread": ours(1),
    }


def measure(
    name: str, texts: list[str], made: dict[str, Encode], tokens: int, repetitions: int
) -> list[dict[str, Any]]:
    """One row for each engine; vectors must be model2vec's."""
    times: dict[str, list[Spent]] = {engine: [] for engine in made}
    reference = None
    for _, engine in machine.in_turns(list(made), repetitions):
        vectors, spent = machine.spent(partial(made[engine], texts))
        times[engine].append(spent)
        reference = vectors if reference is None else reference
        if not np.allclose(vectors, reference, rtol=1e-4, atol=1e-5):
            sys.exit(f"{engine}: other vectors on {name}")
    rows = []
    for engine, took in times.items():
        cpu, wall = (statistics.median(getattr(one, kind) for one in took) for kind in ("cpu", "wall"))
        rows.append(
            {
                "set": name,
                "engine": engine,
                "texts": len(texts),
                "tokens": tokens,
                "cpu_s": significant(cpu),
                "wall_s": significant(wall),
                "m_tokens_per_cpu_s": significant(tokens / cpu / 1e6),
                "ratio_cpu": significant(_ratio(times, engine, "cpu")),
                "ratio_wall": significant(_ratio(times, engine, "wall")),
            }
        )
    return rows


def _ratio(times: dict[str, list[Spent]], engine: str, kind: str) -> float:
    """The median over repetitions of how much longer the better peer took."""
    taken = {name: [getattr(one, kind) for one in spent] for name, spent in times.items()}
    best = [min(pair) for pair in zip(*(taken[peer] for peer in PEERS), strict=True)]
    return statistics.median(peer / own for peer, own in zip(best, taken[engine], strict=True))


def main() -> None:
    """Prints the table and writes it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "static_encode.csv")
    given = parser.parse_args()
    folder = hub.resolve("all-MiniLM-L6-v2", known=registry.known()).folder
    loaded = load_tokenizer(folder)
    tokenizer = Tokenizer(loaded.backend, {"unk_token": "[UNK]", "drop_unknown": True}, loaded.files())
    table = np.random.default_rng(0).standard_normal((tokenizer.vocab_size, DIM)).astype(np.float32)
    with tempfile.TemporaryDirectory() as place:
        StaticModel(table, loaded.backend, normalize=False).save_pretrained(place)
        made = engines(Path(place), machine.cores(), len(SETS) * given.repetitions + 1)
    for encode in made.values():
        encode(["The code is compiled, or read from disk."])
    rows: list[dict[str, Any]] = []
    for name, texts_of in SETS.items():
        texts = list(texts_of(given.texts))
        if not texts:
            continue
        flat = FastTokenizer(tokenizer).flat_ids(texts, special=False)
        for i in range(0, len(texts), 4096):
            expected = np.concatenate(tokenizer.ids(texts[i : i + 4096], special=False))
            if not np.array_equal(
                flat.ids[flat.offsets[i] : flat.offsets[min(i + 4096, len(texts))]], expected
            ):
                sys.exit(f"other ids among texts {i} to {i + 4096} of {name}")
        rows += measure(name, texts, made, len(flat.ids), given.repetitions)
    machine.write_csv(given.out, rows, ("set", "engine", "cpu"))
    machine.print_table(rows, COLUMNS)


if __name__ == "__main__":
    main()
