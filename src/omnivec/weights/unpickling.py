"""Pickles as data: an unpickler that can name nothing but what its reader lists, within what a file may take.

A pickle is a small program that may call whatever it names, and may ask for more memory than it has bytes: by a forged
number of a memo entry, by one byte for an empty set, or by copying a list again and again. It is read over once before
it is run, and what it will make is counted.
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
from omnivec.validation.reasons import one_line
from omnivec.weights.bounds import Bounds, brief

# Bytes that an instruction makes where that is more than `_OTHER`, and those that a text or number has beside its own.
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
MOST_WIDE = 1000  # whole numbers of more than 64 bits: any number of them could be chosen to have one hash


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that can name nothing but what it is given."""

    def __init__(
        self, bounds: Bounds, data: bytes, known: Mapping[tuple[str, str], Any], advice: str, encoding: str
    ) -> None:
        """Takes a pickle.

        Args:
            bounds: of the file that it lies in.
            data: the pickle.
            known: what a module and a name stand for; made anew for each file, since a pickle may write attributes to
                whatever it can name.
            advice: what to do with a file that names something else.
            encoding: of the texts of Python 2.

        Raises:
            WeightsError: it asks for more than the file may take.
        """
        check_program(bounds, data)
        super().__init__(io.BytesIO(data), encoding=encoding)
        self.bounds = bounds
        self.known = known
        self.advice = advice

    def find_class(self, module: str, name: str, /) -> object:
        """Only what is listed; a name is never imported."""
        try:
            return self.known[module, name]
        except KeyError:
            raise WeightsError(
                f"{self.bounds.path}: loading it would run code ({module[:80]}.{name[:80]}): refused; {self.advice}"
            ) from None


@contextmanager
def damage(path: Path, what: str) -> Iterator[None]:
    """Whatever is raised while a file is unpickled becomes a WeightsError: a damaged pickle can fail in any way.

    Args:
        path: of the file.
        what: it should be: "torch file".
    """
    try:
        yield
    except WeightsError:
        raise
    except RecursionError as error:
        raise WeightsError(f"{path}: its tables lie too deep in one another: damaged.") from error
    except Exception as error:
        why = f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__
        raise WeightsError(f"{path}: a damaged {what}, or none at all ({why[:300]}).") from error


def check_program(bounds: Bounds, data: bytes) -> None:
    """Counts what a pickle makes before it is run.

    Raises:
        WeightsError: that is more than the file may take.
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
    """A function that copies what it is given, such as `list`: the copies are counted as what the file takes."""

    def copy(*parts: Any) -> Any:
        for part in parts:
            if not isinstance(part, (list, tuple, set, frozenset, dict, str, bytes)):
                raise bounds.error(f"a {type(part).__name__} where a list, a table or a text is due")
            bounds.spend("what its pickle copies", 8 * len(part) + _HEAD)
        return make(*parts)

    return copy
