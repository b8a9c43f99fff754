"""What both sides of search.py need: rows, their fields, exact neighbours. Imports nothing but NumPy.

Each row has an id (its number as a string), a text, a vector and three fields: `shelf`, 0 to 99, which filters ask for,
`year` and `language`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

K = 10
SHELVES = 100
LANGUAGES = ("en", "de", "fr", "el", "zh")
REAL, MILLION = "real", "million"
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The rows that are searched, and the queries.

    Attributes:
        folder: with the files that search_data.py made.
        name: "real" or "million".
        count: how many of them, from the first on.
    """

    folder: Path
    name: str
    count: int

    def vectors(self) -> Floats:
        """(count, dim) float32, mapped from the file."""
        file = "vectors.npy" if self.name == REAL else "million.npy"
        found: Floats = np.load(self.folder / file, mmap_mode="r")[: self.count]
        if len(found) < self.count:
            raise ValueError(f"{self.folder / file} has {len(found)} rows, {self.count} are asked for")
        return found

    def texts(self) -> list[str]:
        """A text for each row; a made row has that of the real one that it was made from."""
        known = read_json(self.folder / "texts.json")
        if self.name == REAL:
            return known[: self.count]
        parents = np.load(self.folder / "parents.npy", mmap_mode="r")[: self.count]
        return [known[i] for i in parents.tolist()]

    def shelves(self) -> Ints:
        """(count,) int64: the shelf of each row; one in a hundred is on the same."""
        return np.random.default_rng(1).integers(SHELVES, size=self.count)

    def fields(self) -> list[dict[str, Any]]:
        """The three fields of each row."""
        return [
            {"shelf": shelf, "year": 1950 + i % 75, "language": LANGUAGES[i % 5]}
            for i, shelf in enumerate(self.shelves().tolist())
        ]

    def queries(self, count: int = 1_000) -> Floats:
        """(count, dim) float32, in a drawn order: the first of them are a sample of all kinds.

        Beyond those of the file they are means of two of them.
        """
        known: Floats = np.load(self.folder / "queries.npy")
        known = known[np.random.default_rng(2).permutation(len(known))]
        while len(known) < count:
            means = known + np.roll(known, 1, axis=0)
            known = np.concatenate([known, means / np.linalg.norm(means, axis=1, keepdims=True)])
        return known[:count]


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of so many rows that cover all."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def exact(vectors: Floats, queries: Floats, k: int, block: int = 50_000) -> tuple[Ints, Floats]:
    """The k nearest rows of each query and their similarities, best first, in bounded memory."""
    rows = np.zeros((len(queries), 0), np.int64)
    scores = np.zeros((len(queries), 0), np.float32)
    for part in blocks(len(vectors), block):
        near = queries @ np.asarray(vectors[part]).T
        best = np.argpartition(-near, min(k, near.shape[1]) - 1, axis=1)[:, :k]
        rows = np.concatenate([rows, best + part.start], axis=1)
        scores = np.concatenate([scores, np.take_along_axis(near, best, axis=1)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return rows, scores


def recall(found: Sequence[Sequence[int]], wanted: Ints) -> float:
    """Share of the wanted rows that were found, over all queries; -1 is none."""
    hits = [len({*one} & {*best}) for one, best in zip(found, wanted.tolist(), strict=True)]
    return sum(hits) / int((wanted >= 0).sum())


def save(path: Path, array: NDArray[Any]) -> None:
    """Writes an array so that a reader never sees half of it."""
    partial = path.with_name(f"{path.stem}.partial.npy")
    np.save(partial, array)
    partial.replace(path)


def read_json(path: Path) -> Any:
    """The value in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """A value to a file, so that a reader never sees half of it."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(path)
