"""Text formats of word2vec, GloVe and fastText (.vec): a key and its numbers on each line.

Files of word2vec and fastText begin with a line of two numbers, the number of keys and the dimension; GloVe's do not.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from omnivec.errors import WeightsError
from omnivec.files import written
from omnivec.inputs.text.whitespace import BOM, why_not_utf8
from omnivec.tables.checks import blocks, check_finite, decoded, encoded, first_rows, reading
from omnivec.tables.record import Table
from omnivec.tables.subwords import composed
from omnivec.types import Floats

_BLOCK = 1 << 22  # bytes of lines that are parsed together
_LONGEST = 1 << 20  # most bytes of a first line that are read
# Separators other than a single space; where one occurs, the rows of a block are checked one by one.
_ODD = (b"  ", b"\t", b"\r", b"\v", b"\f")


@dataclass(frozen=True)
class Header:
    """The first line of word2vec's text and binary files: the number of keys and the dimension."""

    keys: int
    dim: int


def parse_header(line: bytes) -> Header | None:
    """A line of two whole numbers and nothing else; None for any other line."""
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() and len(part) < 19 for part in parts):
        return None
    return Header(int(parts[0]), int(parts[1]))


def read_text(
    path: Path,
    limit: int = 0,
    *,
    header: bool | None = None,
    dim: int = 0,
    always: Collection[str] = (),
    blanks: bool = True,
    errors: str = "strict",
) -> Table:
    """Reads a text file of vectors.

    Args:
        path: the file. Each line holds a key, a space or tab, and `dim` numbers. A key may contain spaces, but no
            number after one: such a line is reported as too long. The file may begin with a byte order mark, and may
            be gzip-compressed.
        limit: read at most this many keys, from the beginning; 0 for all.
        header: whether the first line holds the number of keys and the dimension; None to find out.
        dim: numbers on each line; 0 to take it from the first line.
        always: keys that are read even after `limit` keys.
        blanks: whether to keep keys that contain a space.
        errors: what to do with keys that are not valid UTF-8: "strict", "replace" or "ignore", as in `bytes.decode`.

    Returns:
        Keys and vectors; `duplicates` counts rows whose key had occurred before.

    Raises:
        WeightsError: the file cannot be read, is truncated, or has a line that is not a key and `dim` numbers.
    """
    with reading(path) as stream:
        stated, dim = _begin(path, stream, header, dim)
        reader = _Reading(path, dim, limit, set(always), blanks, errors)
        first = 1 + (stated is not None)
        while lines := _next_lines(path, stream):
            reader.add(lines, first)
            first += len(lines)
            if reader.done:
                break
    rows = first - 1 - (stated is not None) - reader.empty
    if stated is not None and not reader.done and rows != stated.keys:
        raise WeightsError(
            f"{path}, line 1: its first line says {stated.keys} keys, {rows} follow: truncated or damaged"
        )
    return reader.table()


def _begin(path: Path, stream: BinaryIO, header: bool | None, dim: int) -> tuple[Header | None, int]:
    """The header, if any, and the number of components per line; moves the stream to the first key."""
    line, second = stream.readline(_LONGEST), stream.readline(_LONGEST)
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise WeightsError(f"{path} {why_not_utf8(line)}")
    mark = len(BOM) * line.startswith(BOM)
    stated = parse_header(line[mark:])
    if header is None and stated is not None:
        # "5 1" may also be the key "5" of a table with one dimension.
        header = dim > 1 or not second.strip() or len(second.split()) > stated.dim
    if header and stated is None:
        raise WeightsError(
            f"{path}: its first line {line[:40]!r} is not the number of keys and of dimensions"
        )
    if not header:
        stated, second = None, line[mark:]
    stream.seek(len(line) if stated else mark)
    components = stated.dim if stated else len(second.split()) - 1
    if not dim and components < 1:
        raise WeightsError(f"{path} holds no vectors: its first line is {line[:40]!r}")
    if stated and dim and stated.dim != dim:
        raise WeightsError(f"{path}: its first line says {stated.dim} numbers, expected {dim}")
    return stated, dim or components


def _next_lines(path: Path, stream: BinaryIO) -> list[bytes]:
    """The next lines, about `_BLOCK` bytes of them."""
    lines = []
    size = 0
    while size < _BLOCK and (line := stream.readline(16 * _BLOCK)):
        if len(line) == 16 * _BLOCK:
            raise WeightsError(f"{path}: a line of more than {len(line)} bytes: not a text file of vectors")
        lines.append(line)
        size += len(line)
    return lines


@dataclass(eq=False)
class _Reading:
    """The keys and vectors read so far. Memory grows with the rows read, whatever number the header states."""

    path: Path
    dim: int
    limit: int
    missing: set[str]
    blanks: bool
    errors: str
    keys: dict[str, None] = field(default_factory=dict)
    values: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    duplicates: int = 0
    undecoded: int = 0
    empty: int = 0  # lines

    @property
    def done(self) -> bool:
        return bool(self.limit) and len(self.keys) >= self.limit and not self.missing

    def add(self, lines: Sequence[bytes], first: int) -> None:
        """Reads lines; `first` is the line number of the first one."""
        numbers = list(range(first, first + len(lines)))
        if self.limit and len(self.keys) + len(lines) > self.limit:
            for number, line in zip(numbers, lines, strict=True):
                if self.done:
                    return
                if len(self.keys) < self.limit or self._is_missed(line):
                    self._add([line], [number])
            return
        self._add(lines, numbers)

    def _is_missed(self, line: bytes) -> bool:
        return line.partition(b" ")[0].decode("utf-8", "replace") in self.missing

    def _add(self, lines: Sequence[bytes], numbers: Sequence[int]) -> None:
        if blank_lines := [row for row, line in enumerate(lines) if not line.strip()]:
            self.empty += len(blank_lines)
            blank_rows = set(blank_lines)
            lines = [line for row, line in enumerate(lines) if row not in blank_rows]
            numbers = [number for row, number in enumerate(numbers) if row not in blank_rows]
        raw, tails = self._split(lines, numbers)
        vectors = self._parsed(raw, tails, numbers)
        keys, undecoded = decoded(self.path, raw, numbers, self.errors, "line")
        self.undecoded += undecoded
        rows = self._new(keys)
        self.keys.update(dict.fromkeys(keys if rows is None else [keys[row] for row in rows]))
        self.missing.difference_update(keys)
        self._append(vectors if rows is None else vectors[rows])

    def _split(self, lines: Sequence[bytes], numbers: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
        """The key of each line, and its numbers as text."""
        raw, tails = [], []
        dim = self.dim
        for row, line in enumerate(lines):
            line = line.rstrip()
            if line.count(b" ") == dim:
                key, _, tail = line.partition(b" ")
            else:
                key, tail = self._split_oddly(line, numbers[row])
            raw.append(key)
            tails.append(tail)
        return raw, tails

    def _split_oddly(self, line: bytes, number: int) -> tuple[bytes, bytes]:
        """The key and the numbers of a line with spaces in its key, repeated spaces, or tabs."""
        for blank in (b" ", None):
            key, *values = line.rsplit(blank, self.dim)
            if len(values) == self.dim and all(values) and b"\t" not in b"".join(values):
                key = key.rstrip(b" \t")
                surplus = numbers_behind(key) if all(map(_is_number, values)) else 0
                if not surplus:
                    return key, b" ".join(values)
                # Otherwise the first numbers of a row that is too long would silently become part of the key.
                key, values = key.split(None, 1)[0], [b""] * (self.dim + surplus)
                break
        shown = key[:40].decode("utf-8", "replace")
        raise WeightsError(
            f"{self.path}, line {number}: {len(values)} numbers after {shown!r}, expected {self.dim}"
        )

    def _parsed(self, raw: Sequence[bytes], tails: Sequence[bytes], numbers: Sequence[int]) -> Floats:
        """The numbers of lines as (lines, dim) float32."""
        joined = b" ".join(tails)
        if any(odd in joined for odd in _ODD):
            # The total alone is not enough: a surplus number of one row could hide a missing one of another.
            for number, key, tail in zip(numbers, raw, tails, strict=True):
                if len(tail.split()) != self.dim:
                    self._split_oddly(b"%s %s" % (key, tail), number)
        try:
            flat = np.fromstring(joined, np.float32, sep=" ")
        except (ValueError, DeprecationWarning):
            flat = np.empty(0, np.float32)
        if flat.size != len(tails) * self.dim:
            self._name_the_line(raw, tails, numbers)
        vectors = flat.reshape(len(tails), self.dim)
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            check_finite(self.path, vectors[row : row + 1], numbers[row], "line")
        return vectors

    def _name_the_line(self, raw: Sequence[bytes], tails: Sequence[bytes], numbers: Sequence[int]) -> None:
        """Raises the error that names the line with a value that is not a number."""
        for number, key, tail in zip(numbers, raw, tails, strict=True):
            shown = key[:40].decode("utf-8", "replace")
            for value in tail.decode("utf-8", "replace").split(" "):
                try:
                    float(value)
                except ValueError as error:
                    # If numbers are missing, one of the values is the key, or a part of it.
                    raise WeightsError(
                        f"{self.path}, line {number}: {error}; the key {shown!r} needs {self.dim} numbers"
                    ) from error
        raise WeightsError(f"{self.path}, lines {numbers[0]} to {numbers[-1]}: not all values are numbers")

    def _new(self, keys: list[str]) -> list[int] | None:
        """The rows of a block whose keys are new and allowed; None for all."""
        rows = first_rows(keys)
        if rows is None and self.blanks and self.keys.keys().isdisjoint(keys):
            return None
        fresh = [row for row in (range(len(keys)) if rows is None else rows) if keys[row] not in self.keys]
        self.duplicates += len(keys) - len(fresh)
        return [row for row in fresh if self.blanks or keys[row].split() == [keys[row]]]

    def _append(self, vectors: Floats) -> None:
        used = (len(self.keys) - len(vectors)) * self.dim
        if used + vectors.size > self.values.size:
            self.values.resize(max(used + vectors.size, self.values.size * 3 // 2), refcheck=False)
        self.values[used : used + vectors.size] = vectors.ravel()

    def table(self) -> Table:
        if not self.keys:
            raise WeightsError(f"{self.path} holds no vectors")
        self.values.resize(len(self.keys) * self.dim, refcheck=False)
        vectors = self.values.reshape(-1, self.dim)
        return Table(list(self.keys), vectors, duplicates=self.duplicates, undecoded=self.undecoded)


def numbers_behind(line: bytes) -> int:
    """How many numbers a line ends with, not counting its first word; 0 if its last word is not a number."""
    count = 0
    for word in reversed(line.split()[1:]):
        if not _is_number(word):
            break
        count += 1
    return count


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def read_word2vec_text(path: Path, limit: int = 0, errors: str = "strict") -> Table:
    """Reads word2vec's text format or fastText's .vec, which have a first line."""
    return read_text(path, limit, header=True, errors=errors)


def read_glove(path: Path, limit: int = 0, errors: str = "strict") -> Table:
    """Reads GloVe's text format, which has no first line."""
    return read_text(path, limit, header=False, errors=errors)


def write_word2vec_text(path: Path, table: Table) -> None:
    """Writes word2vec's text format; with n-grams, the vectors composed of them."""
    _write(path, table, "word2vec text", header=True)


def write_vec(path: Path, table: Table) -> None:
    """Writes fastText's .vec, which has the layout of word2vec's text format."""
    _write(path, table, "fastText .vec", header=True)


def write_glove(path: Path, table: Table) -> None:
    """Writes GloVe's text format; with n-grams, the vectors composed of them."""
    _write(path, table, "GloVe text", header=False)


def _write(path: Path, table: Table, form: str, *, header: bool) -> None:
    keys = encoded(table.keys, form)
    with written(path, error=WeightsError) as partial, partial.open("wb") as stream:
        if header:
            stream.write(b"%d %d\n" % (len(table), table.dim))
        stream.writelines(_lines(keys, composed(table)))


def _lines(keys: Sequence[bytes], vectors: Floats) -> Iterator[bytes]:
    """One line per key, with nine significant digits, from which each float32 is read back exactly."""
    form = b"%s" + b" %.9g" * vectors.shape[1] + b"\n"
    rows = (row for block in blocks(vectors) for row in block.tolist())
    for key, row in zip(keys, rows, strict=True):
        yield form % (key, *row)
