"""A static model of all-MiniLM-L6-v2: what it is worth, its size, and what it took.

Spearman correlation of cosines with people's scores on STSBenchmark, times 100. The recipe's settings were chosen on
the dev part; no text of STSBenchmark is trained on. Beside it stand the teacher, the mean of the teacher's vectors of
tokens, the table that the recipe begins with, and model2vec's own distillation where it is installed with its extra.
Writes results/distill.csv.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
import omnivec
from omnivec.models.keyed import KeyedEmbedder
from omnivec.models.table import table_model
from omnivec.tables.formats.own import STORED
from omnivec.tables.int8 import quantized, restored
from omnivec.tables.record import Table
from omnivec.vectors.correlation import spearman

Row = dict[str, Any]
Encode = Callable[[list[str]], NDArray[np.float32]]
TEACHER = "all-MiniLM-L6-v2"
COLUMNS = ("program", "dim", "rows", "dev", "test", "megabytes", "wall_s", "cpu_s")


def score(encode: Encode, split: str) -> float:
    """Correlation on one part of STSBenchmark."""
    path = machine.data("stsbenchmark", f"stsb-en-{split}.csv")
    if path is None:
        raise SystemExit("stsbenchmark is not in the data folder")
    with path.open(encoding="utf-8", newline="") as lines:
        left, right, scores = zip(*csv.reader(lines), strict=True)
    vectors = encode([*left, *right]).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = (vectors[: len(left)] * vectors[len(left) :]).sum(axis=1)
    return 100 * spearman(cosines, [float(value) for value in scores])


def size(folder: Path) -> float:
    """All files of a folder, in millions of bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def row(
    program: str, encode: Encode, dim: int, rows: int, megabytes: float, spent: machine.Spent | None
) -> Row:
    """One line of the result."""
    return {
        "program": program,
        "dim": dim,
        "rows": rows,
        "dev": round(score(encode, "dev"), 2),
        "test": round(score(encode, "test"), 2),
        "megabytes": round(megabytes, 2),
        "wall_s": round(spent.wall) if spent else "",
        "cpu_s": round(spent.cpu) if spent else "",
    }


def saved(model: KeyedEmbedder) -> tuple[KeyedEmbedder, float]:
    """The model as it is read from the folder that it was saved to, and that folder's size."""
    with tempfile.TemporaryDirectory() as folder:
        place = model.save(Path(folder) / "model")
        return omnivec.load(place), size(place)


def of_table(table: Table, model: KeyedEmbedder) -> KeyedEmbedder:
    """Another table in a model's place."""
    return KeyedEmbedder(table_model(table, model.folder, stored=False), model.name, model.source)


def ours(program: str, model: KeyedEmbedder, spent: machine.Spent | None) -> Row:
    """A line for a model that was trained here."""
    read, megabytes = saved(model)
    return row(program, read.encode, read.dim, len(read.keys), megabytes, spent)


def rounded(model: KeyedEmbedder) -> KeyedEmbedder:
    """The model with rows of int8: bit by bit what the recipe makes with int8=True."""
    table = model.table
    rows = restored(*quantized(table.vectors))
    return of_table(replace(table, vectors=rows, settings={**table.settings, STORED: "int8"}), model)


def trained(corpus: Path, texts: int, more: list[Path]) -> Iterator[Row]:
    """The recipe, and the stages that it goes through."""
    few: dict[str, Any] = {"teacher": TEACHER, "texts": min(texts, 8192), "epochs": 0}
    mean = omnivec.train("distill", corpus, **few, dim=384, max_vocab=None, sif=0.0, int8=False)
    yield ours("mean of the teacher's tokens", mean, None)
    yield ours("what it begins with", omnivec.train("distill", corpus, **few), None)
    model, spent = machine.spent(
        lambda: omnivec.train("distill", corpus, teacher=TEACHER, texts=texts, int8=False)
    )
    yield ours("omnivec distill, float32", model, spent)
    yield ours("omnivec distill", rounded(model), spent)
    if more:
        model, spent = machine.spent(
            lambda: omnivec.train("distill", [corpus, *more], teacher=TEACHER, texts=texts)
        )
        yield ours("omnivec distill, more texts", model, spent)


def model2vec(folder: Path) -> Iterator[Row]:
    """model2vec's distillation of the same teacher to the same size, as its README calls it."""
    if importlib.util.find_spec("model2vec") is None or importlib.util.find_spec("skeletoken") is None:
        print("skipped: model2vec is not installed with its extra: pip install 'model2vec[distill]'")
        return
    from model2vec.distill import distill

    model, spent = machine.spent(lambda: distill(str(folder), pca_dims=256, device="cpu"))
    with tempfile.TemporaryDirectory() as place:
        model.save_pretrained(place)
        rows, dim = model.embedding.shape
        yield row("model2vec distill", model.encode, dim, rows, size(Path(place)), spent)


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--texts", type=int, default=100_000, help="snippets that the teacher reads")
    arguments.add_argument("--more", type=Path, nargs="*", default=[], help="files of texts beside wiki17m")
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "distill.csv")
    asked = arguments.parse_args()
    corpus = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
    if corpus is None:
        return
    teacher = omnivec.load(TEACHER)
    rows = [row(f"{TEACHER}, the teacher", teacher.encode, teacher.dim, 0, size(teacher.folder), None)]
    rows += model2vec(teacher.folder)
    for found in trained(corpus, asked.texts, asked.more):
        rows.append(found)
        print(found, flush=True)
    machine.print_table(rows, COLUMNS)
    machine.write_csv(asked.out, rows)


if __name__ == "__main__":
    main()
