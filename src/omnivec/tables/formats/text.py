"""Tables as text: a key and its numbers on each line, as word2vec, GloVe and fastText's .vec have it.

word2vec and fastText begin with a line of two numbers, keys and dimension; GloVe does not.
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

_BLOCK = 1 << 22  # bytes of lines that are parsed at once
_LONGEST = 1 << 20  # bytes of a first line: a million numbers have more
# What a row of numbers parted by single blanks does not have: with these in it, it is read by itself.
_ODD = (b"  ", b"\t", b"\r", b"\v", b"\f")


@dataclass(frozen=True)
class Header:
    """The first line of word2vec's text and binary files."""

    keys: int
    dim: int


def parse_header(line: bytes) -> Header | None:
    """Two whole numbers and nothing else; None for any other line."""
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
        path: a line for each key: the key, a blank (or tab), `dim` numbers. A key may hold blanks itself, but no
            number behind one: that is a row of another length. The file may begin with a byte order mark, and may be
            packed by gzip.
        limit: read so many keys only, in the file's order; 0 for all.
        header: whether the first line says keys and dimension; None: where it looks so.
        dim: numbers on each line; 0: as the first line has it.
        always: keys that are read wherever they stand.
        blanks: whether keys with a blank inside are kept.
        errors: of keys that are no UTF-8: "strict", "replace" or "ignore", as Python has them.

    Returns:
        keys and vectors, `duplicates` counted.

    Raises:
        WeightsError: the file cannot be read, is cut short, or has a line with other than a key and `dim` numbers.
    """
    with reading(path) as stream:
        said, dim = _begin(path, stream, header, dim)
        found = _Reading(path, dim, limit, set(always), blanks, errors)
        first = 1 + (said is not None)
        while lines := _next_lines(path, stream):
            found.add(lines, first)
            first += len(lines)
            if found.done:
                break
    rows = first - 1 - (said is not None) - found.empty
    if said is not None and not found.done and rows != said.keys:
        raise WeightsError(
            f"{path}, line 1: its first line says {said.keys} keys, {rows} follow: cut short or wrong"
        )
    return found.table()


def _begin(path: Path, stream: BinaryIO, header: bool | None, dim: int) -> tuple[Header | None, int]:
    """The header and the numbers on each line; the stream then stands at the first key."""
    line, second = stream.readline(_LONGEST), stream.readline(_LONGEST)
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise WeightsError(f"{path} {why_not_utf8(line)}")
    mark = len(BOM) * line.startswith(BOM)
    said = parse_header(line[mark:])
    if header is None and said is not None:
        # The first key of a table of one dimension looks like a header too.
        header = dim > 1 or not second.strip() or len(second.split()) > said.dim
    if header and said is None:
        raise WeightsError(
            f"{path}: its first line {line[:40]!r} is not the number of keys and of dimensions"
        )
    if not header:
        said, second = None, line[mark:]
    stream.seek(len(line) if said else mark)
    found = said.dim if said else len(second.split()) - 1
    if not dim and found < 1:
        raise WeightsError(f"{path} holds no vectors: its first line is {line[:40]!r}")
    if said and dim and said.dim != dim:
        raise WeightsError(f"{path}: its first line says {said.dim} numbers, expected {dim}")
    return said, dim or found


def _next_lines(path: Path, stream: BinaryIO) -> list[bytes]:
    """About `_BLOCK` bytes of lines."""
    lines = []
    size = 0
    while size < _BLOCK and (line := stream.readline(16 * _BLOCK)):
        if len(line) == 16 * _BLOCK:
            raise WeightsError(f"{path}: a line of more than {len(line)} bytes: no text file of vectors")
        lines.append(line)
        size += len(line)
    return lines


@dataclass(eq=False)
class _Reading:
    """What has been read of a file so far. Memory grows with the rows that came, not with what a header says."""

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
        """Takes lines, of which the first has the number `first`."""
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
        if stripped := [row for row, line in enumerate(lines) if not line.strip()]:
            self.empty += len(stripped)
            gone = set(stripped)
            lines = [line for row, line in enumerate(lines) if row not in gone]
            numbers = [number for row, number in enumerate(numbers) if row not in gone]
        raw, tails = self._split(lines, numbers)
        vectors = self._parsed(raw, tails, numbers)
        keys, undecoded = decoded(self.path, raw, numbers, self.errors, "line")
        self.undecoded += undecoded
        rows = self._new(keys)
        self.keys.update(dict.fromkeys(keys if rows is None else [keys[row] for row in rows]))
        self.missing.difference_update(keys)
        self._append(vectors if rows is None else vectors[rows])

    def _split(self, lines: Sequence[bytes], numbers: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
        """The keys of lines, and the numbers behind them as text."""
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
        """A line with blanks in its key, doubled blanks, or tabs."""
        for blank in (b" ", None):
            key, *values = line.rsplit(blank, self.dim)
            if len(values) == self.dim and all(values) and b"\t" not in b"".join(values):
                key = key.rstrip(b" \t")
                surplus = numbers_behind(key) if all(map(_is_number, values)) else 0
                if not surplus:
                    return key, b" ".join(values)
                # Taken as part of the key, the first numbers of a longer row would be lost without a word.
                key, values = key.split(None, 1)[0], [b""] * (self.dim + surplus)
                break
        shown = key[:40].decode("utf-8", "replace")
        raise WeightsError(
            f"{self.path}, line {number}: {len(values)} numbers behind {shown!r}, expected {self.dim}"
        )

    def _parsed(self, raw: Sequence[bytes], tails: Sequence[bytes], numbers: Sequence[int]) -> Floats:
        """(lines, dim) float32."""
        joined = b" ".join(tails)
        if any(odd in joined for odd in _ODD):
            # Two numbers of one row could stand for a missing one of another.
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
        for number, key, tail in zip(numbers, raw, tails, strict=True):
            shown = key[:40].decode("utf-8", "replace")
            for value in tail.decode("utf-8", "replace").split(" "):
                try:
                    float(value)
                except ValueError as error:
                    # Where numbers are missing, the first "number" from the right is the key.
                    raise WeightsError(
                        f"{self.path}, line {number}: {error}; the key {shown!r} needs {self.dim} numbers"
                    ) from error
        raise WeightsError(f"{self.path}, lines {numbers[0]} to {numbers[-1]}: not all are numbers")

    def _new(self, keys: list[str]) -> list[int] | None:
        """The rows of a block that are kept; None for all."""
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
    """How many numbers end a line, its first word left aside; 0 where its last word is none."""
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
    """A text file with a first line: word2vec's, fastText's .vec."""
    return read_text(path, limit, header=True, errors=errors)


def read_glove(path: Path, limit: int = 0, errors: str = "strict") -> Table:
    """A text file without a first line: GloVe's."""
    return read_text(path, limit, header=False, errors=errors)


def write_word2vec_text(path: Path, table: Table) -> None:
    """Writes word2vec's text; of a table with n-grams, the vectors that they make up."""
    _write(path, table, "word2vec text", header=True)


def write_vec(path: Path, table: Table) -> None:
    """Writes fastText's .vec: word2vec's text."""
    _write(path, table, "fastText .vec", header=True)


def write_glove(path: Path, table: Table) -> None:
    """Writes GloVe's text."""
    _write(path, table, "GloVe text", header=False)


def _write(path: Path, table: Table, form: str, *, header: bool) -> None:
    keys = encoded(table.keys, form)
    with written(path, error=WeightsError) as partial, partial.open("wb") as stream:
        if header:
            stream.write(b"%d %d\n" % (len(table), table.dim))
        stream.writelines(_lines(keys, composed(table)))


def _lines(keys: Sequence[bytes], vectors: Floats) -> Iterator[bytes]:
    """One line each; nine digits bring every float32 back exactly."""
    form = b"%s" + b" %.9g" * vectors.shape[1] + b"\n"
    rows = (row for block in blocks(vectors) for row in block.tolist())
    for key, row in zip(keys, rows, strict=True):
        yield form % (key, *row)
