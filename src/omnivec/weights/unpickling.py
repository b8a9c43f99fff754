"""Reads pickles as data: only listed names may be used, and memory is limited by the size of the file.

A pickle is a small program that may call any function that it names, and may take far more memory than it has bytes: by
a forged memo index, by one byte for an empty set, or by copying a list again and again. It is scanned once before it is
run, and the memory that it will take is counted.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omnivec.errors import WeightsError
from omnivec.validation.reasons import with_class
from omnivec.weights.bounds import Bounds, brief

# Bytes of memory for the result of an opcode, if more than `_OTHER`; a text or bytes take `_HEAD` and their length.
_MADE = {
    "EMPTY_SET": 216,
    "FROZENSET": 216,
    "EMPTY_DICT": 64,
    "DICT": 64,
    "SETITEM": 120,
    "EMPTY_LIST": 56,
    "LIST": 56,
    "TUPLE": 56,
    "TUPLE1": 56,
    "TUPLE2": 56,
    "TUPLE3": 64,
    "REDUCE": 200,
    "BUILD": 104,
    "NEWOBJ": 200,
    "NEWOBJ_EX": 200,
    "INST": 200,
    "OBJ": 200,
}
_OTHER = 16
_HEAD = 56
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
MOST_WIDE = 1000  # integers of more than 64 bits: many with the same hash would make a dict or set slow


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that resolves listed names only."""

    def __init__(
        self, bounds: Bounds, data: bytes, known: Mapping[tuple[str, str], Any], advice: str, encoding: str
    ) -> None:
        """Checks a pickle and prepares to load it.

        Args:
            bounds: of the file.
            data: the pickle.
            known: (module, name) -> the object to use. It must be made again for each file, since a pickle may set
                attributes of the objects that it names.
            advice: what to do with a file that uses other names, for messages.
            encoding: of texts from Python 2.

        Raises:
            WeightsError: the pickle would take more memory than the file may.
        """
        check_program(bounds, data)
        super().__init__(io.BytesIO(data), encoding=encoding)
        self.bounds = bounds
        self.known = known
        self.advice = advice

    def find_class(self, module: str, name: str, /) -> object:
        """The object listed for a name; nothing is ever imported."""
        try:
            return self.known[module, name]
        except KeyError:
            raise WeightsError(
                f"{self.bounds.path}: loading it would run code ({module[:80]}.{name[:80]}): refused; {self.advice}"
            ) from None


@contextmanager
def damage(path: Path, what: str) -> Iterator[None]:
    """Turns any exception inside the block into a WeightsError, since a damaged pickle can raise anything.

    Args:
        path: of the file.
        what: what the file should be, such as "torch file".
    """
    try:
        yield
    except WeightsError:
        raise
    except RecursionError as error:
        raise WeightsError(f"{path}: its tables are nested too deeply: damaged.") from error
    except Exception as error:
        why = with_class(error) if str(error) else type(error).__name__
        raise WeightsError(f"{path}: damaged, or not a {what} ({why[:300]}).") from error


def check_program(bounds: Bounds, data: bytes) -> None:
    """Counts the memory that a pickle would take, before it is run.

    Raises:
        WeightsError: it is more than the file may take.
    """
    made = wide = 0
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in _MEMO and (argument or 0) > len(data):
            raise bounds.error(f"a pickle of {len(data)} bytes with a memo of {brief(argument)} entries")
        wide += isinstance(argument, int) and argument.bit_length() > 64
        if wide > MOST_WIDE:
            raise bounds.error(f"a pickle with more than {MOST_WIDE} whole numbers of more than 64 bits")
        made += (
            _HEAD + len(argument)
            if isinstance(argument, (str, bytes, bytearray))
            else _MADE.get(name, _OTHER)
        )
    bounds.spend("what its pickle describes", made)


def counted(bounds: Bounds, make: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function that copies its argument, such as `list`, so that the memory of the copies is counted."""

    def copy(*parts: Any) -> Any:
        for part in parts:
            if not isinstance(part, (list, tuple, set, frozenset, dict, str, bytes)):
                raise bounds.error(f"a {type(part).__name__}, expected a list, a dict or a text")
            bounds.spend("what its pickle copies", 8 * len(part) + _HEAD)
        return make(*parts)

    return copy
