"""What a file states about itself, held against its bytes before anything is allocated or repeated.

A damaged or hostile file may state any count, size, shape, offset or stride. Every reader of weights and tables asks a
`Bounds` first, so that a file costs time and memory in proportion to its bytes:

    bounds = Bounds(path, len(raw))
    end = bounds.span("its input matrix", begin, bounds.elements("its input matrix", (rows, dim)), 4)
    bounds.spend("rows of quantised codes", 4 * rows * dim)

What is unpacked or copied, added up over a file, is at most `TIMES` its size, or `FLOOR` where that is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omnivec.errors import WeightsError
from omnivec.validation.reasons import of_system

TIMES = 20
"""What a file is unpacked to, at most, in sizes of the file."""
FLOOR = 64 << 20
"""Bytes that any file may be unpacked to, however small it is."""
MOST_AXES = 64
"""Axes of an array: NumPy has no more."""
LONGEST_NGRAM = 255
"""Characters or words of the longest n-gram; published tables have 6 and 5."""
MOST_BUCKETS = 2**31 - 1
"""Numbers that n-grams are hashed to: fastText counts them in 32 bits."""

_SHOWN = 120  # characters of a value in a message
_LISTED = 9  # parts of a list


class Bounds:
    """The bytes of one file, and what has been unpacked of them."""

    def __init__(self, path: Path, size: int) -> None:
        """Takes a file and its size in bytes."""
        self.path = path
        self.size = size
        self.spent = 0

    @classmethod
    def of(cls, path: Path) -> Bounds:
        """Those of a file; WeightsError where it is not there."""
        try:
            return cls(path, path.stat().st_size)
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {of_system(error)}.") from error

    @property
    def limit(self) -> int:
        """Bytes that may be unpacked of it."""
        return max(TIMES * self.size, FLOOR)

    def number(self, what: str, stated: object, least: int, most: int) -> int:
        """A whole number from `least` to `most`; WeightsError for anything else."""
        if type(stated) is not int or not least <= stated <= most:
            raise self.error(f"{what} of {brief(stated)} where {least} to {most} can be: damaged")
        return stated

    def count(self, what: str, stated: object, each: int, begin: int = 0) -> int:
        """How many pieces follow byte `begin`, of which each takes at least `each` bytes."""
        fitting = (self.size - begin) // each
        if type(stated) is not int or not 0 <= stated <= fitting:
            raise self.error(
                f"{brief(stated)} {what} where {max(fitting, 0)} fit into the {self.size} bytes of the file: "
                "cut short or damaged"
            )
        return stated

    def span(self, what: str, begin: int, count: int, itemsize: int = 1) -> int:
        """Where `count` elements that begin at a byte end; WeightsError where that is outside of the file."""
        end = begin + count * itemsize
        if min(begin, count) < 0 or end > self.size:
            raise self.error(f"{what} ends at byte {brief(end)} of {self.size}: cut short or damaged")
        return end

    def elements(self, what: str, shape: Sequence[object]) -> int:
        """The elements of a shape. A side is no longer than the file has bytes, even where another one is 0.

        Raises:
            WeightsError: a side that is no number or cannot be, or more sides than an array has.
        """
        if len(shape) > MOST_AXES:
            raise self.error(f"{what} has a shape of {len(shape)} numbers; at most {MOST_AXES}")
        total = 1
        for side in shape:
            if type(side) is not int or not 0 <= side <= max(self.size, 1 << 16):
                raise self.error(
                    f"{what} of shape {brief(list(shape))} is more than {self.size} bytes hold: damaged"
                )
            total *= side
        return total

    def spend(self, what: str, nbytes: int, times: int = TIMES) -> int:
        """Bytes that are about to be unpacked or copied, added to those before.

        Raises:
            WeightsError: they are more than `times` the file and more than `FLOOR`.
        """
        most = max(times * self.size, FLOOR)
        if nbytes < 0 or self.spent + nbytes > most:
            raise self.error(
                f"{what} takes {brief(nbytes)} bytes of memory, {self.spent} are taken before it; the {self.size} "
                f"bytes of the file may be unpacked to {most}: refused"
            )
        self.spent += nbytes
        return nbytes

    def error(self, what: str) -> WeightsError:
        """An error that names the file."""
        return WeightsError(f"{self.path}: {what}.")


def check_ngrams(bounds: Bounds, min_n: object, max_n: object, words: object, buckets: object) -> None:
    """What a table says of its n-grams: lengths in characters and in words, and the numbers they are hashed to.

    Raises:
        WeightsError: a length that no n-gram has, or more buckets than fastText counts.
    """
    bounds.number("an n-gram's least length (min_n)", min_n, 0, LONGEST_NGRAM)
    bounds.number("an n-gram's greatest length (max_n)", max_n, 0, LONGEST_NGRAM)
    bounds.number("an n-gram's length in words (word_ngrams)", words, 0, LONGEST_NGRAM)
    bounds.number("a number of buckets", buckets, 0, MOST_BUCKETS)


def brief(value: object) -> str:
    """A value in a message, in one short line.

    What a file holds may have a million digits, or hold one list twice, and that another one twice, and so on.
    """
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(_plain, value[:_LISTED])) + ", ..." * (len(value) > _LISTED)
        text = f"[{inside}]" if isinstance(value, list) else f"({inside})"
    else:
        text = _plain(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _plain(value: object) -> str:
    if isinstance(value, (str, bytes)):
        return repr(value[:_SHOWN])
    plain = (
        value is None
        or isinstance(value, (bool, float))
        or (type(value) is int and value.bit_length() <= 256)
    )
    return repr(value) if plain else f"<{type(value).__name__}>"
