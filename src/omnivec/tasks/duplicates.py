"""Copies of images in files: exact, recompressed, resized, cropped. Nothing is ever deleted.

Equal bytes are found by their SHA-256. Hashes and vectors, which are cheap to compare, say which others may be copies;
whether they are is decided by laying one picture over the other (`inputs.image.crops`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from omnivec import progress
from omnivec.errors import ItemError, UsageError
from omnivec.inputs.image import MODALITY as IMAGE
from omnivec.inputs.image.crops import Grey, Place, find, grey
from omnivec.inputs.image.hashes import image_hash
from omnivec.inputs.items import paths as given_paths
from omnivec.inputs.modality import plural
from omnivec.models.embedder import Embedder
from omnivec.types import Floats
from omnivec.validation.arguments import real
from omnivec.validation.reasons import item_error
from omnivec.vectors.duplicates import Pairs, hash_pairs, joined, vector_pairs

Why = Literal["exact", "recompressed", "resized", "cropped"]

DISTANCE, COSINE, NEIGHBOURS = 10, 0.5, 16
"""What makes two images worth laying over each other: bits in which their hashes differ, at most; the cosine of their
vectors, at least, among the nearest. Of EfficientNet-Lite0, 500 photographs and crops that keep 60 % of each side: one
in fifty crops has a cosine below 0.63; 4 in 10,000 pairs of different photographs have 0.5 or more."""

UNCUT = 0.98
"""Share of a side from which on nothing is said to be cut off: a pixel more or less is rounding."""

_GREYS = 1024  # small versions that are held, 36 kB each


@dataclass(frozen=True)
class File:
    """An image file.

    Attributes:
        path: of the file.
        width: in pixels, as it is seen.
        height: in pixels, as it is seen.
        size: in bytes.
    """

    path: Path
    width: int
    height: int
    size: int


@dataclass(frozen=True)
class Copy:
    """A file that shows what another does.

    Attributes:
        file: the copy.
        of: what it was compared with: what is kept, or where that has too little in common, another of the group.
        why: "exact": the same bytes. "recompressed": as large, all of it. "resized": all of it in another size.
            "cropped": one of the two lacks a part.
        score: share of the pixels' variance that the two have in common; 1 for equal pixels.
    """

    file: File
    of: Path
    why: Why
    score: float


@dataclass(frozen=True)
class Group:
    """Files that show the same photograph.

    Attributes:
        keep: what lacks no part, of these the one of the most pixels, of these the one of the most bytes.
        copies: the others.
    """

    keep: File
    copies: tuple[Copy, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """What `find_copies` returns.

    Attributes:
        groups: in the order of their first files.
        files: how many were read.
        failures: file -> why it was not, one line.
    """

    groups: tuple[Group, ...]
    files: int
    failures: dict[Path, str] = field(default_factory=dict)


def find_copies(
    paths: Any, model: Embedder, *, cosine: float = COSINE, show_progress_bar: bool | None = None
) -> Found:
    """Groups of image files that show the same photograph.

    Memory: of each file its vector, a hash and a digest.

    Args:
        paths: of the files, each a pathlib.Path or a str.
        model: that embeds images.
        cosine: from which on two are compared more closely.
        show_progress_bar: progress on stderr; None in a terminal or a notebook, once it lasts.

    Raises:
        UsageError: a model that embeds no images, or a cosine that is none.
    """
    if IMAGE.name not in model.modalities:
        raise UsageError(
            f"{model.name} reads {plural(model.modalities)} and no images: take {IMAGE.default_model}, or another of "
            "images"
        )
    cosine = real("cosine", cosine, -1, 1)
    failures: dict[Path, str] = {}
    kinds = list(_by_bytes(given_paths(paths), failures, show_progress_bar).values())
    hashes, vectors = _described(kinds, model, failures, show_progress_bar)
    files = sum(len(same_bytes) for same_bytes in kinds)
    search = _Search([same_bytes[0] for same_bytes in kinds], failures)
    with progress.bar("comparing", None, "pairs", show_progress_bar) as shown:
        for candidates in (hash_pairs(hashes, DISTANCE), vector_pairs(vectors, cosine, NEIGHBOURS)):
            search.verify(candidates, shown)
    groups_of_rows = [rows.tolist() for rows in joined(len(kinds), search.pairs())]
    grouped = {row for rows in groups_of_rows for row in rows}
    several = [[row] for row, same_bytes in enumerate(kinds) if len(same_bytes) > 1 and row not in grouped]
    groups = (search.group(rows, kinds) for rows in sorted(groups_of_rows + several))
    return Found(tuple(group for group in groups if group), files, failures)


def _by_bytes(
    paths: Iterable[Path], failures: dict[Path, str], shown: bool | None
) -> dict[bytes, list[Path]]:
    """The files of each content, by its SHA-256."""
    by_digest: dict[bytes, list[Path]] = {}
    with progress.bar("reading", None, "files", shown) as reading:
        for path in paths:
            reading.advance(1)
            try:
                if not path.is_file():  # a FIFO would hold us for ever
                    raise ItemError(f"{path}: no file, or none that is regular; check the spelling")
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
            except BaseException as error:
                failures[path] = str(item_error(error, str(path)))
                continue
            by_digest.setdefault(digest, []).append(path)
    return {digest: _original_first(same) for digest, same in by_digest.items()}


def _original_first(same: list[Path]) -> list[Path]:
    """The shortest name of the first folder before the others: copying adds to it, "cat (1).jpg", "cat copy.jpg"."""
    beside = [path for path in same if path.parent == same[0].parent]
    original = min(beside, key=lambda path: len(path.name))
    return [original, *(path for path in same if path != original)]


def _described(
    kinds: list[list[Path]], model: Embedder, failures: dict[Path, str], shown: bool | None
) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], Floats]:
    """Hash (n,) and vector (n, dim) of each content; those that are no images are taken out of `kinds`."""
    hashes, good = [], []
    with progress.bar("hashing", len(kinds), "images", shown) as hashing:
        for same_bytes in kinds:
            hashing.advance(1)
            try:
                hashes.append(image_hash(same_bytes[0]))
                good.append(same_bytes)
            except BaseException as error:
                why = str(item_error(error, str(same_bytes[0])))
                failures |= {path: why.replace(str(same_bytes[0]), str(path)) for path in same_bytes}
    kinds[:] = good
    vectors = np.zeros((len(kinds), model.dim), np.float32)
    with progress.bar("embedding", len(kinds), "images", shown) as embedding:
        for encoded in model.stream(same_bytes[0] for same_bytes in kinds):
            vectors[encoded.kept] = encoded.vectors
            failures |= {kinds[i][0]: why for i, why in encoded.failures.items()}
            embedding.advance(len(encoded.kept) + len(encoded.failures))
    return np.array(hashes, np.uint64), vectors


@dataclass(frozen=True)
class _Match:
    """That one picture lies in another, and where."""

    whole: int
    part: int
    place: Place

    @property
    def cut(self) -> bool:
        """Whether the part lacks anything."""
        return min(self.place.width, self.place.height) < UNCUT


class _Search:
    """Pictures laid over each other, pair by pair; those known to be of one group are spared."""

    def __init__(self, paths: Sequence[Path], failures: dict[Path, str]) -> None:
        self._paths, self._failures = paths, failures
        self._parent = list(range(len(paths)))
        self._links: list[tuple[int, int]] = []
        self._matches: dict[tuple[int, int], _Match] = {}
        self._tried: set[tuple[int, int]] = set()
        self._grey = lru_cache(maxsize=_GREYS)(self._read)

    def verify(self, candidates: Iterator[Pairs], shown: progress.Bar) -> None:
        """Joins the pairs that are copies."""
        for pairs in candidates:
            for one, other in pairs.tolist():
                shown.advance(1)
                if (one, other) in self._tried or self._root(one) == self._root(other):
                    continue
                self._tried.add((one, other))
                if self.match(one, other) is not None:
                    self._links.append((one, other))
                    self._parent[self._root(other)] = self._root(one)

    def pairs(self) -> Pairs:
        """The pairs that are copies (m, 2): those that are needed to join their groups."""
        return np.array(sorted(self._links), np.int64).reshape(-1, 2)

    def match(self, one: int, other: int) -> _Match | None:
        """Which of two pictures lies in the other, and where: the one of fewer pixels if both do."""
        if (known := self._matches.get((one, other))) is not None:
            return known
        first, second = self._grey(one), self._grey(other)
        if first is None or second is None:
            return None
        whole, part = one, other
        if first.width * first.height < second.width * second.height:
            whole, part, first, second = other, one, second, first
        place = find(first, second)
        if place is None:
            whole, part, place = part, whole, find(second, first)
        if place is None:
            return None
        match = _Match(whole, part, place)
        self._matches[one, other] = self._matches[other, one] = match
        return match

    def group(self, rows: Sequence[int], kinds: Sequence[Sequence[Path]]) -> Group | None:
        """The group of pictures with its files; None where they have become unreadable."""
        files = {row: [self._file(row, path) for path in kinds[row]] for row in rows if self._grey(row)}
        if sum(map(len, files.values())) < 2:
            return None
        order = sorted(files, key=lambda row: (-_pixels(files[row][0]), -files[row][0].size, row))
        best = order[0]
        for row in order[1:]:
            match = self.match(best, row)
            if match is not None and match.cut and match.whole == row:
                best = row
        keep, *same = files[best]
        copies = [Copy(file, keep.path, "exact", 1.0) for file in same]
        for row in order:
            if row != best:
                copies += self._copies(best, row, files)
        return Group(keep, tuple(copies))

    def _copies(self, best: int, row: int, files: dict[int, list[File]]) -> list[Copy]:
        match = self.match(best, row) or next(
            self._matches[pair] for pair in self._links if row in pair and files.keys() >= set(pair)
        )
        of = match.whole if match.part == row else match.part
        as_large = (files[of][0].width, files[of][0].height) == (files[row][0].width, files[row][0].height)
        why: Why = "cropped" if match.cut else "recompressed" if as_large else "resized"
        score = max(match.place.explained, 0.0)
        return [Copy(file, files[of][0].path, why, score) for file in files[row]]

    def _root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = row = self._parent[self._parent[row]]
        return row

    def _read(self, row: int) -> Grey | None:
        try:
            return grey(self._paths[row])
        except BaseException as error:
            self._failures[self._paths[row]] = str(item_error(error, str(self._paths[row])))
            return None

    def _file(self, row: int, path: Path) -> File:
        small = self._grey(row)
        try:
            size = path.stat().st_size
        except OSError:  # It was there when it was read.
            size = 0
        return File(path, small.width if small else 0, small.height if small else 0, size)


def _pixels(file: File) -> int:
    return file.width * file.height
