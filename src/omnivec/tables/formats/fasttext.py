"""fastText's .bin format: settings, dictionary, rows of words and n-grams, and the output matrix, all little-endian.

The layout is what fastText writes in format versions 11 and 12: Args, Dictionary, input matrix, output matrix.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.files import written
from omnivec.tables.checks import blocks, check_finite, decoded, encoded, limited, unique
from omnivec.tables.formats.quantised import read_quantised
from omnivec.tables.record import Subwords, Table
from omnivec.types import Floats
from omnivec.weights.bounds import Bounds, check_ngrams
from omnivec.weights.tensor import Bytes, as_elements, map_file

MAGIC = 793712314
VERSIONS = (11, 12)
_ARGS = struct.Struct("<12id")
_DICTIONARY = struct.Struct("<3i2q")
_MATRIX = struct.Struct("<?2q")
_ENTRY = struct.Struct("<qb")  # follows a key and its zero byte: count, and 0 for a word or 1 for a label
_WINDOW = 1 << 20  # bytes

LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
MODELS = {1: "cbow", 2: "skipgram", 3: "supervised"}
# The settings in the file's order, with the value written for a table that lacks them.
ARGS: dict[str, Any] = {
    "dim": 0,
    "window": 5,
    "epochs": 5,
    "min_count": 1,
    "negative": 5,
    "word_ngrams": 1,
    "loss": "ns",
    "model": "skipgram",
    "buckets": 0,
    "min_n": 0,
    "max_n": 0,
    "lr_update_rate": 100,
    "sample": 1e-4,
}


@dataclass(frozen=True)
class _Dictionary:
    """The dictionary of a file.

    Attributes:
        keys: words, then labels.
        counts: (keys,) how often each occurred.
        words: number of words.
        tokens: number of tokens in the training text.
        undecoded: number of keys that are not valid UTF-8.
        pruned: (n,) the remaining buckets of a pruned model, in the order of their rows; None if not pruned.
        end: offset of its end in the file.
    """

    keys: list[str]
    counts: NDArray[np.int64]
    words: int
    tokens: int
    undecoded: int
    pruned: NDArray[np.int32] | None
    end: int


def read_fasttext_bin(path: Path, limit: int = 0, errors: str = "strict") -> Table:
    """Reads a fastText model: word vectors or a classifier.

    Args:
        path: the file; a quantised one (.ftz) is read into memory, others are memory-mapped.
        limit: keep at most this many words, from the beginning; 0 for all. All n-grams are kept.
        errors: what to do with words that are not valid UTF-8: "strict", "replace" or "ignore", as in `bytes.decode`.

    Returns:
        `vectors` holds the rows of words without their n-grams, `subwords` the rows of n-grams, `output` the output
        rows of words or of `settings["labels"]`.

    Raises:
        WeightsError: the file is damaged or truncated.
        UnsupportedModel: the file has another format version.
    """
    raw = map_file(path)
    bounds = Bounds(path, len(raw))
    settings = _settings(path, raw)
    min_n, max_n, buckets = (settings.pop(name) for name in ("min_n", "max_n", "buckets"))
    check_ngrams(bounds, min_n, max_n, settings["word_ngrams"], buckets)
    dictionary = _dictionary(bounds, raw, 8 + _ARGS.size, errors)
    input_matrix, position = _matrix(bounds, raw, dictionary.end, "input")
    output, position = _matrix(bounds, raw, position, "output")
    if position != len(raw):
        raise WeightsError(f"{path}: {len(raw) - position} bytes after its output matrix: damaged")
    words, dim, supervised = dictionary.words, settings["dim"], settings["model"] == "supervised"
    expected_buckets = buckets if dictionary.pruned is None else len(dictionary.pruned)
    if input_matrix.shape != (words + expected_buckets, dim):
        raise WeightsError(
            f"{path}: an input matrix of {input_matrix.shape} for {words} words, {expected_buckets} buckets and {dim} "
            "dimensions: damaged"
        )
    labels = dictionary.keys[words:]
    if output.shape != (len(labels) if supervised else words, dim):
        what = f"{len(labels)} labels" if supervised else f"{words} words"
        raise WeightsError(
            f"{path}: an output matrix of {output.shape} for {what} and {dim} dimensions: damaged"
        )
    rows = as_elements(input_matrix.reshape(-1).view(np.uint8), np.dtype("<f4")).reshape(input_matrix.shape)
    check_finite(path, rows)
    settings["tokens"] = dictionary.tokens
    if supervised:
        check_finite(path, output)
    if labels:
        settings |= {"labels": labels, "label_counts": dictionary.counts[words:].tolist()}
    table = Table(
        dictionary.keys[:words],
        rows[:words],
        counts=dictionary.counts[:words],
        subwords=_subwords(path, rows[words:], min_n, max_n, buckets, dictionary.pruned),
        output=output,
        settings=settings,
        undecoded=dictionary.undecoded,
        kind="fasttext",
    )
    return limited(unique(table), limit)


def _settings(path: Path, raw: Bytes) -> dict[str, Any]:
    head = raw[: 8 + _ARGS.size].tobytes()
    magic, version = struct.unpack_from("<2i", head.ljust(8, b"\0"))
    if magic != MAGIC or len(head) < 8 + _ARGS.size:
        raise WeightsError(f"{path}: not a fastText model, or truncated at {len(raw)} bytes")
    if version not in VERSIONS:
        raise UnsupportedModel(f"{path}: fastText format version {version}; versions 11 and 12 are supported")
    values = dict(zip(ARGS, _ARGS.unpack_from(head, 8), strict=True))
    loss, model = values["loss"], values["model"]
    if loss not in LOSSES or model not in MODELS or min(values["dim"], values["buckets"] + 1) < 1:
        raise WeightsError(
            f"{path}: loss {loss}, model {model}, {values['dim']} dimensions, {values['buckets']} buckets: damaged"
        )
    values |= {"loss": LOSSES[loss], "model": MODELS[model]}
    if version == 11 and values["model"] == "supervised":
        values["max_n"] = 0  # classifiers of version 11 have no character n-grams
    return values


def _dictionary(bounds: Bounds, raw: Bytes, position: int, errors: str) -> _Dictionary:
    path = bounds.path
    end = bounds.span("its dictionary", position, _DICTIONARY.size)
    size, words, labels, tokens, pruned = _DICTIONARY.unpack(raw[position:end].tobytes())
    if size != words + labels or min(words, labels) < 0 or pruned < -1:
        raise WeightsError(
            f"{path}: a dictionary of {size} entries, {words} words, {labels} labels and {pruned} n-grams left by "
            "pruning: damaged"
        )
    bounds.count("entries of a dictionary", size, _ENTRY.size + 1, end)
    keys, counts, kinds, position = _entries(path, raw, end, size)
    if kinds != bytes(words) + b"\1" * labels:
        raise WeightsError(f"{path}: its {words} words do not precede its {labels} labels: damaged")
    texts, undecoded = decoded(path, keys, range(1, size + 1), errors, "row")
    left = None if pruned < 0 else _pruned(bounds, raw, position, pruned)
    end = position + (0 if left is None else 8 * pruned)
    return _Dictionary(texts, np.array(counts, np.int64), words, tokens, undecoded, left, end)


def _pruned(bounds: Bounds, raw: Bytes, position: int, count: int) -> NDArray[np.int32]:
    """The bucket of each row of a pruned model, from the file's (bucket, row) pairs."""
    end = bounds.span(f"{count} n-grams left by pruning", position, count, 8)
    pairs = as_elements(raw[position:end], np.dtype("<i4")).reshape(count, 2)
    if not np.array_equal(np.sort(pairs[:, 1]), np.arange(count)):
        raise bounds.error(f"{count} n-grams left by pruning do not each have a row of their own: damaged")
    buckets = np.empty(count, np.int32)
    buckets[pairs[:, 1]] = pairs[:, 0]
    return buckets


def _subwords(
    path: Path, rows: Floats, min_n: int, max_n: int, number: int, pruned: NDArray[np.int32] | None
) -> Subwords | None:
    if not number:
        return None
    if pruned is None:
        return Subwords(rows, min_n, max_n)
    order = np.argsort(pruned)
    buckets = pruned[order]
    if len(buckets) and (buckets[0] < 0 or buckets[-1] >= number or (np.diff(buckets) == 0).any()):
        raise WeightsError(
            f"{path}: the buckets of pruned n-grams are not distinct or not below {number}: damaged"
        )
    return Subwords(np.ascontiguousarray(rows[order]), min_n, max_n, buckets, number)


def _entries(path: Path, raw: Bytes, position: int, size: int) -> tuple[list[bytes], list[int], bytes, int]:
    """The keys, counts and kinds (0 word, 1 label) of the dictionary's entries, and the offset of their end."""
    keys, counts, kinds = [], [], bytearray()
    window, base = b"", position
    for row in range(size):
        zero = window.find(b"\0", position - base)
        if zero < 0 or zero + 1 + _ENTRY.size > len(window):
            window, base = raw[position : position + _WINDOW].tobytes(), position
            zero = window.find(b"\0")
        if zero < 0 or zero + 1 + _ENTRY.size > len(window):
            raise WeightsError(f"{path}: truncated or damaged: entry {row + 1} of {size} at byte {position}")
        count, kind = _ENTRY.unpack_from(window, zero + 1)
        keys.append(window[position - base : zero])
        counts.append(count)
        kinds.append(kind & 0xFF)
        position = base + zero + 1 + _ENTRY.size
    return keys, counts, bytes(kinds), position


def _matrix(bounds: Bounds, raw: Bytes, position: int, name: str) -> tuple[Floats, int]:
    """A matrix, as a view of the memory map or, if quantised, restored in memory; and the offset of its end."""
    begin = bounds.span(f"the head of its {name} matrix", position, _MATRIX.size)
    quantised, rows, dim = _MATRIX.unpack(raw[position:begin].tobytes())
    if quantised:
        return read_quantised(bounds, raw, position + 1)
    count = bounds.elements(f"its {name} matrix", (rows, dim))
    end = bounds.span(f"its {name} matrix of {rows} x {dim}", begin, count, 4)
    return np.ndarray((rows, dim), "<f4", raw.data, begin), end


def write_fasttext_bin(path: Path, table: Table) -> None:
    """Writes a model that fastText loads; without counts, each is 1; without an output matrix, it is zeros.

    Raises:
        UsageError: a key or label is empty or contains whitespace.
        WeightsError: the disk refused.
    """
    settings = dict(table.settings)
    labels = encoded(settings.get("labels", ()), "fastText .bin")
    words = encoded(table.keys, "fastText .bin")
    counts = np.ones(len(words), np.int64) if table.counts is None else table.counts
    label_counts = settings.get("label_counts", [1] * len(labels))
    output = (
        np.zeros((len(labels) or len(words), table.dim), np.float32) if table.output is None else table.output
    )
    with written(path, error=WeightsError) as partial, partial.open("wb") as stream:
        stream.write(struct.pack("<2i", MAGIC, VERSIONS[-1]) + _packed_settings(table))
        size = len(words), len(labels), settings.get("tokens", int(counts.sum())), -1
        stream.write(_DICTIONARY.pack(size[0] + size[1], *size))
        for kind, keys, seen in ((0, words, counts.tolist()), (1, labels, label_counts)):
            stream.writelines(
                key + b"\0" + _ENTRY.pack(count, kind) for key, count in zip(keys, seen, strict=True)
            )
        grams = [] if table.subwords is None else [table.subwords.dense()]
        _write_matrix(stream, [table.vectors, *grams])
        _write_matrix(stream, [output])


def _packed_settings(table: Table) -> bytes:
    values = ARGS | {name: value for name, value in table.settings.items() if name in ARGS}
    values["dim"] = table.dim
    if table.subwords is not None:
        values["buckets"] = table.subwords.hashed_to
        values["min_n"], values["max_n"] = table.subwords.min_n, table.subwords.max_n
    numbers = {name: number for names in (LOSSES, MODELS) for number, name in names.items()}
    # Losses and models are stored as numbers.
    return _ARGS.pack(*(numbers.get(value, value) for value in values.values()))


def _write_matrix(stream: BinaryIO, parts: list[Floats]) -> None:
    stream.write(_MATRIX.pack(False, sum(map(len, parts)), parts[0].shape[1]))
    for part in parts:
        stream.writelines(block.tobytes() for block in blocks(part))
