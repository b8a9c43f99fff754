"""Reads pickles that gensim saved, without gensim and without running code from the file.

A pickle is a program that may call any function it names. Here each name that gensim's models need is replaced by a
class that only records its arguments and state (`Saved`); any other name is refused before it is looked up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import WeightsError
from omnivec.validation.reasons import of_system
from omnivec.weights.bounds import Bounds, brief
from omnivec.weights.tensor import Array
from omnivec.weights.unpickling import RestrictedUnpickler, damage

MAX_PICKLE = 8_000_000_000  # bytes; keys and small arrays of the largest known models take far less

# Allowed names by module; numpy.core became numpy._core in NumPy 2.
ALLOWED = {
    "builtins": (
        "int",
        "float",
        "str",
        "hash",
        "object",
        "set",
        "frozenset",
        "dict",
        "list",
        "tuple",
        "bytearray",
    ),
    "__builtin__": ("int", "float", "long", "unicode", "hash", "object", "set", "frozenset"),
    "collections": ("defaultdict", "OrderedDict", "Counter"),
    "copyreg": ("_reconstructor",),
    "copy_reg": ("_reconstructor",),
    "_codecs": ("encode",),
    "numpy": ("ndarray", "dtype", "float32", "float64", "int64", "int32", "uint32"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.numeric": ("_frombuffer",),
    "numpy.core.numeric": ("_frombuffer",),
    "numpy.random._pickle": ("__randomstate_ctor", "__bit_generator_ctor", "__generator_ctor"),
    "numpy.random._mt19937": ("MT19937",),
    "numpy.random.mtrand": ("RandomState",),
    "gensim.utils": ("call_on_class_only", "SaveLoad"),
    "gensim.models.keyedvectors": (
        "KeyedVectors",
        "Word2VecKeyedVectors",
        "WordEmbeddingsKeyedVectors",
        "Doc2VecKeyedVectors",
        "FastTextKeyedVectors",
        "EuclideanKeyedVectors",
        "Vocab",
        "SimpleVocab",
        "CompatVocab",
    ),
    "gensim.models.word2vec": ("Word2Vec", "Word2VecVocab", "Word2VecTrainables", "Vocab"),
    "gensim.models.fasttext": ("FastText", "FastTextKeyedVectors", "FastTextVocab", "FastTextTrainables"),
    "gensim.models.doc2vec": ("Doc2Vec", "Doc2VecVocab", "Doc2VecTrainables", "Doctag", "DocvecsArray"),
}
DTYPES = frozenset(
    np.dtype(name) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
)


class Saved:
    """An object of a pickle: the name it was constructed by, its arguments, and the state set on it."""

    name = ""

    def __new__(cls, *args: Any) -> Saved:
        """Records the arguments."""
        made = super().__new__(cls)
        made.args = args
        made.state = None
        return made

    args: tuple[Any, ...]
    state: Any

    def __init__(self, *args: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def attributes(self) -> dict[str, Any]:
        """The saved object's attributes by name; empty if its state is not a dict."""
        return self.state if isinstance(self.state, dict) else {}


class _SavedTable(dict[Any, Any]):
    """Stands for dict classes whose constructor takes a factory or other arguments, which are ignored."""

    def __init__(self, *_: Any) -> None:
        super().__init__()


def read_pickle(path: Path) -> Any:
    """The object in a pickle: plain values and containers as they are, anything else as `Saved`.

    Raises:
        WeightsError: the file is damaged, is not a pickle, or uses a name that is not in `ALLOWED`.
    """
    try:
        size = path.stat().st_size
        if size > MAX_PICKLE:
            raise WeightsError(f"{path}: a pickle of {size} bytes; at most {MAX_PICKLE} are read")
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {of_system(error)}") from error
    bounds = Bounds(path, len(data))
    advice = "save it with gensim as word2vec format (save_word2vec_format)"
    with damage(path, "pickle"):
        return RestrictedUnpickler(bounds, data, _known(bounds), advice, encoding="latin1").load()


def _known(bounds: Bounds) -> dict[tuple[str, str], Any]:
    """What the unpickler uses for each allowed (module, name)."""
    known: dict[tuple[str, str], Any] = {
        (module, name): type(name, (Saved,), {"name": f"{module}.{name}"})
        for module, names in ALLOWED.items()
        for name in names
    }
    for name in ALLOWED["collections"]:
        known["collections", name] = type(name, (_SavedTable,), {})

    def encode(text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "utf-8"):
            raise bounds.error(
                f"its pickle encodes a {type(text).__name__} as {brief(encoding)}, where only str as latin1 or utf-8 "
                "is allowed"
            )
        bounds.spend("what its pickle copies", 2 * len(text) + 64)
        return text.encode(str(encoding))

    known["_codecs", "encode"] = encode
    for module in ("copyreg", "copy_reg"):
        known[module, "_reconstructor"] = lambda factory, *_: factory()
    return known


def as_array(path: Path, saved: object, name: str) -> Array:
    """The NumPy array that a pickled object describes; `name` is its attribute name, for the error.

    Raises:
        WeightsError: the object is not an array of numbers, or its shape, dtype and data do not fit together.
    """
    try:
        return _array(path, saved)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise WeightsError(
            f"{path}: {name} cannot be read as an array of numbers ({str(error)[:300]})"
        ) from error


def _array(path: Path, saved: Any) -> Array:
    if saved.name.endswith("._frombuffer"):
        buffer, saved_dtype, shape, order = saved.args
        fortran = order == "F"
    elif saved.name.endswith("._reconstruct"):
        _, shape, saved_dtype, fortran, buffer = saved.state
        buffer = buffer.encode("latin1") if isinstance(buffer, str) else buffer
    else:
        raise ValueError(f"it is a {saved.name}")
    dtype = _dtype(saved_dtype)  # checked before any element is read
    if not isinstance(buffer, (bytes, bytearray)):
        raise TypeError(f"its numbers are a {type(buffer).__name__}")
    array = np.frombuffer(bytearray(buffer), dtype)
    Bounds(path, len(buffer)).elements("an array", shape)
    return array.reshape(shape, order="F" if fortran else "C")


def _dtype(saved: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(saved.args[0])
    if dtype not in DTYPES:
        raise ValueError(f"its element type is {brief(saved.args[0])}")
    big = bool(saved.state) and saved.state[1] == ">"
    return dtype.newbyteorder(">" if big else "<")
