"""Checks counts, sizes and offsets that a file states against its length, before anything is allocated or looped over.

A damaged or hostile file may state any count, size, shape, offset or stride. Every reader of weights and tables checks
them with `Bounds` first, so that time and memory are in proportion to the length of the file:

    bounds = Bounds(path, len(raw))
    end = bounds.span("its input matrix", begin, bounds.elements("its input matrix", (rows, dim)), 4)
    bounds.spend("rows of quantised codes", 4 * rows * dim)

The memory for unpacked and copied data, added up over a file, is at most `TIMES` its size or `FLOOR`, whichever is
more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omnivec.errors import WeightsError
from omnivec.validation.reasons import of_system

TIMES = 20
"""Most memory for the unpacked data of a file, as a multiple of its size."""
FLOOR = 64 << 20
"""Bytes that the data of any file may be unpacked to, however small it is."""
MOST_AXES = 64
"""Most axes of an array, NumPy's limit."""
LONGEST_NGRAM = 255
"""Characters or words of the longest n-gram; published tables have 6 and 5."""
MOST_BUCKETS = 2**31 - 1
"""Most buckets that n-grams are hashed to: fastText's number of them has 32 bits."""

_SHOWN = 120  # characters of a value in a message
_LISTED = 9  # elements of a list in a message


class Bounds:
    """The size of one file, and the memory that its data have taken so far."""

    def __init__(self, path: Path, size: int) -> None:
        """Makes the bounds of a file of `size` bytes."""
        self.path = path
        self.size = size
        self.spent = 0

    @classmethod
    def of(cls, path: Path) -> Bounds:
        """The bounds of a file on disk; WeightsError if it cannot be read."""
        try:
            return cls(path, path.stat().st_size)
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {of_system(error)}.") from error

    @property
    def limit(self) -> int:
        """Most bytes that the data of the file may take."""
        return max(TIMES * self.size, FLOOR)

    def number(self, what: str, stated: object, least: int, most: int) -> int:
        """A whole number from `least` to `most`; WeightsError for anything else."""
        if type(stated) is not int or not least <= stated <= most:
            raise self.error(f"{what} of {brief(stated)}, but only {least} to {most} is possible: damaged")
        return stated

    def count(self, what: str, stated: object, each: int, begin: int = 0) -> int:
        """A stated number of pieces after byte `begin`, of at least `each` bytes; WeightsError if they do not fit."""
        fitting = (self.size - begin) // each
        if type(stated) is not int or not 0 <= stated <= fitting:
            raise self.error(
                f"{brief(stated)} {what}, but only {max(fitting, 0)} fit into the {self.size} bytes of the file: "
                "cut short or damaged"
            )
        return stated

    def span(self, what: str, begin: int, count: int, itemsize: int = 1) -> int:
        """The end offset of `count` elements that begin at byte `begin`; WeightsError if it is outside of the file."""
        end = begin + count * itemsize
        if min(begin, count) < 0 or end > self.size:
            raise self.error(f"{what} ends at byte {brief(end)} of {self.size}: cut short or damaged")
        return end

    def elements(self, what: str, shape: Sequence[object]) -> int:
        """The number of elements of a shape. No axis may be longer than the file, even if another one is 0.

        Raises:
            WeightsError: an axis whose length is not a number or out of range, or too many axes.
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
        """Counts bytes that are about to be allocated, in addition to those counted before.

        Raises:
            WeightsError: the sum is more than `times` the size of the file, and more than `FLOOR`.
        """
        most = max(times * self.size, FLOOR)
        if nbytes < 0 or self.spent + nbytes > most:
            raise self.error(
                f"{what} takes {brief(nbytes)} bytes of memory, after {self.spent} before; the {self.size} bytes of "
                f"the file may be unpacked to {most}: refused"
            )
        self.spent += nbytes
        return nbytes

    def error(self, what: str) -> WeightsError:
        """A WeightsError that names the file."""
        return WeightsError(f"{self.path}: {what}.")


def check_ngrams(bounds: Bounds, min_n: object, max_n: object, words: object, buckets: object) -> None:
    """Checks the settings of a table's n-grams: lengths in characters and in words, and the number of buckets.

    Raises:
        WeightsError: a length or a number of buckets out of range.
    """
    bounds.number("an n-gram's least length (min_n)", min_n, 0, LONGEST_NGRAM)
    bounds.number("an n-gram's greatest length (max_n)", max_n, 0, LONGEST_NGRAM)
    bounds.number("an n-gram's length in words (word_ngrams)", words, 0, LONGEST_NGRAM)
    bounds.number("a number of buckets", buckets, 0, MOST_BUCKETS)


def brief(value: object) -> str:
    """A value for a message, in one short line.

    repr() is not used for lists and large numbers: a value from a file may have a million digits, or hold one list
    twice, which holds another one twice, and so on.
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
