"""Copies of images in files: exact, recompressed, resized, cropped. Nothing is ever deleted.

Files of equal bytes are found by their SHA-256. Perceptual hashes and vectors, which are cheap to compare, propose
which other pairs may be copies; whether they are is decided by comparing their pixels (`inputs.image.crops`).
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
from omnivec.inputs.items import paths as checked_paths
from omnivec.inputs.modality import plural
from omnivec.models.embedder import Embedder
from omnivec.models.loading import loaded
from omnivec.types import Floats
from omnivec.validation.arguments import real
from omnivec.validation.reasons import item_error
from omnivec.vectors.duplicates import Pairs, hash_pairs, joined, vector_pairs

Why = Literal["exact", "recompressed", "resized", "cropped"]

DISTANCE, COSINE, NEIGHBOURS = 10, 0.5, 16
"""The pixels of two images are compared if their hashes differ in at most DISTANCE bits, or if one is among the
NEIGHBOURS nearest of the other and their cosine is at least COSINE. Measured with EfficientNet-Lite0 on 500 photographs
and crops that keep 60 % of each side: one in fifty crops has a cosine below 0.63 to its original, and 4 in 10,000 pairs
of different photographs have 0.5 or more."""

UNCUT = 0.98
"""An image that shows at least this share of each side of another is not a crop of it: the rest is rounding."""

_GREYS = 1024  # size of the cache of small grey versions, 36 kB each


@dataclass(frozen=True)
class File:
    """An image file.

    Attributes:
        path: path of the file.
        width: width in pixels, after the EXIF orientation is applied.
        height: height in pixels, after the EXIF orientation is applied.
        size: size in bytes.
    """

    path: Path
    width: int
    height: int
    size: int


@dataclass(frozen=True)
class Copy:
    """A file that is a copy of another.

    Attributes:
        file: the copy.
        of: the file that it was compared with: the one to keep or, if these two have too little in common (two crops),
            another one of the group.
        why: "exact": the same bytes. "recompressed": the whole picture in the same size. "resized": the whole picture
            in another size. "cropped": one of the two shows only a part of the other.
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
        keep: the file to keep: one that is not cropped, among these the one with the most pixels, then the most bytes.
        copies: the other files.
    """

    keep: File
    copies: tuple[Copy, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """The result of `find_copies`.

    Attributes:
        groups: the groups of copies, in the order of their first files.
        files: number of files that were read.
        failures: maps each file that could not be read to the reason, one line.
    """

    groups: tuple[Group, ...]
    files: int
    failures: dict[Path, str] = field(default_factory=dict)


def find_copies(
    paths: Any, model: Embedder, *, cosine: float = COSINE, show_progress_bar: bool | None = None
) -> Found:
    """Finds groups of image files that show the same photograph: exact copies, recompressed, resized or cropped.

    Nothing is deleted. Memory grows with the number of files: a vector, a hash and a digest for each.

    Args:
        paths: an iterable of files, each a pathlib.Path or a str.
        model: embeds images, such as `omnivec.load("efficientnet-lite0")`.
        cosine: the pixels of two images are compared if the cosine of their vectors, in [-1, 1], is at least this.
        show_progress_bar: whether to show progress on stderr; None shows it in a terminal or a notebook if the work
            takes long.

    Returns:
        A `Found` with the groups. A file that cannot be read is in its `failures` and does not raise.

    Raises:
        UsageError: the model does not embed images, or `cosine` is not a number from -1 to 1.

    Examples:
        >>> model = omnivec.load("efficientnet-lite0")
        >>> found = omnivec.find_copies(Path("photos").rglob("*.jpg"), model)
        >>> [(group.keep.path, [copy.file.path for copy in group.copies]) for group in found.groups]
    """
    if IMAGE.name not in loaded(model).modalities:
        raise UsageError(
            f"{model.name} reads {plural(model.modalities)}, not images: use {IMAGE.default_model} or another model of "
            "images"
        )
    cosine = real("cosine", cosine, -1, 1)
    failures: dict[Path, str] = {}
    contents = list(_by_bytes(checked_paths(paths), failures, show_progress_bar).values())
    hashes, vectors = _described(contents, model, failures, show_progress_bar)
    files = sum(len(same) for same in contents)
    search = _Search([same[0] for same in contents], failures)
    with progress.bar("comparing", None, "pairs", show_progress_bar) as shown:
        for candidates in (hash_pairs(hashes, DISTANCE), vector_pairs(vectors, cosine, NEIGHBOURS)):
            search.verify(candidates, shown)
    joint = [rows.tolist() for rows in joined(len(contents), search.pairs())]
    grouped = {row for rows in joint for row in rows}
    exact_only = [[row] for row, same in enumerate(contents) if len(same) > 1 and row not in grouped]
    groups = (search.group(rows, contents) for rows in sorted(joint + exact_only))
    return Found(tuple(group for group in groups if group), files, failures)


def _by_bytes(
    paths: Iterable[Path], failures: dict[Path, str], shown: bool | None
) -> dict[bytes, list[Path]]:
    """Returns the files of each content by its SHA-256, the likely original first."""
    by_digest: dict[bytes, list[Path]] = {}
    with progress.bar("reading", None, "files", shown) as reading:
        for path in paths:
            reading.advance(1)
            try:
                if not path.is_file():  # reading a FIFO would block
                    raise ItemError(f"{path}: does not exist, or is not a regular file; check the spelling")
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
            except BaseException as error:
                failures[path] = str(item_error(error, str(path)))
                continue
            by_digest.setdefault(digest, []).append(path)
    return {digest: _original_first(same) for digest, same in by_digest.items()}


def _original_first(same: list[Path]) -> list[Path]:
    """Moves the shortest name in the first folder to the front: a copy is called "cat (1).jpg" or "cat copy.jpg"."""
    beside = [path for path in same if path.parent == same[0].parent]
    original = min(beside, key=lambda path: len(path.name))
    return [original, *(path for path in same if path != original)]


def _described(
    contents: list[list[Path]], model: Embedder, failures: dict[Path, str], shown: bool | None
) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], Floats]:
    """Returns the hash (n,) and vector (n, dim) of each content; removes from `contents` those that are not images."""
    hashes, good = [], []
    with progress.bar("hashing", len(contents), "images", shown) as hashing:
        for same in contents:
            hashing.advance(1)
            try:
                hashes.append(image_hash(same[0]))
                good.append(same)
            except BaseException as error:
                why = str(item_error(error, str(same[0])))
                failures |= {path: why.replace(str(same[0]), str(path)) for path in same}
    contents[:] = good
    vectors = np.zeros((len(contents), model.dim), np.float32)
    with progress.bar("embedding", len(contents), "images", shown) as embedding:
        for encoded in model.stream(same[0] for same in contents):
            vectors[encoded.kept] = encoded.vectors
            failures |= {contents[i][0]: why for i, why in encoded.failures.items()}
            embedding.advance(len(encoded.kept) + len(encoded.failures))
    return np.array(hashes, np.uint64), vectors


@dataclass(frozen=True)
class _Match:
    """A copy that was found: `part` shows the area `place` of `whole`; both are row numbers of images."""

    whole: int
    part: int
    place: Place

    @property
    def cut(self) -> bool:
        """Whether `part` is cropped, that is, shows less than all of `whole`."""
        return min(self.place.width, self.place.height) < UNCUT


class _Search:
    """Compares images pair by pair, except pairs that are already known to be in one group (a union-find structure)."""

    def __init__(self, paths: Sequence[Path], failures: dict[Path, str]) -> None:
        self._paths, self._failures = paths, failures
        self._parent = list(range(len(paths)))
        self._links: list[tuple[int, int]] = []
        self._matches: dict[tuple[int, int], _Match] = {}
        self._tried: set[tuple[int, int]] = set()
        self._grey = lru_cache(maxsize=_GREYS)(self._read)

    def verify(self, candidates: Iterator[Pairs], shown: progress.Bar) -> None:
        """Compares the candidate pairs and joins those that are copies."""
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
        """Returns pairs of copies (m, 2): as many as are needed to connect each group."""
        return np.array(sorted(self._links), np.int64).reshape(-1, 2)

    def match(self, one: int, other: int) -> _Match | None:
        """Returns which of two images lies in the other (the smaller if both do) and where; None if neither does."""
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

    def group(self, rows: Sequence[int], contents: Sequence[Sequence[Path]]) -> Group | None:
        """Makes the group of some images with all their files; None if too few can still be read."""
        files = {row: [self._file(row, path) for path in contents[row]] for row in rows if self._grey(row)}
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
        except OSError:  # the file was removed after it was read
            size = 0
        return File(path, small.width if small else 0, small.height if small else 0, size)


def _pixels(file: File) -> int:
    return file.width * file.height
