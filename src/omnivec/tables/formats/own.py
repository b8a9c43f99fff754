"""omnivec's table format: a folder with config.json, model.safetensors, keys.json and, if any, tokenizer.json.

It stores everything a `Table` holds; matrices are memory-mapped when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from omnivec.errors import WeightsError
from omnivec.tables.checks import check_finite, first_rows, limited
from omnivec.tables.int8 import quantized, restored
from omnivec.tables.record import MODEL_TYPES, Subwords, Table, contradiction
from omnivec.types import Floats
from omnivec.validation import typed
from omnivec.validation.json_files import read_json, write_json
from omnivec.validation.typed import Between, Count, Index, Size
from omnivec.weights.bounds import Bounds, brief, check_ngrams
from omnivec.weights.safetensors import read_safetensors, save
from omnivec.weights.tensor import Array, Tensor, Weights

STORED = "stored_as"
"""The setting for how vectors are stored: "int8", with a scale per row; otherwise float32."""
_WORDS = "words"


@dataclass(frozen=True)
class _Config:
    """The fields of config.json that are read; model_type is checked separately."""

    dim: Size | None = None
    min_n: Index | None = None
    max_n: Index | None = None
    buckets: Index | None = None
    settings: Mapping[str, Any] | None = None
    words: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Checked:
    """The fields of a table's settings whose types are checked; other settings are kept as they are."""

    normalize: bool | None = None
    drop_unknown: bool | None = None
    prompts: Mapping[str, str] | None = None
    default_prompt_name: str | None = None
    stored_as: str | None = None
    labels: tuple[str, ...] | None = None
    label_counts: tuple[Index, ...] | None = None
    model: str | None = None
    loss: str | None = None
    word_ngrams: Count | None = None
    tokens: Annotated[int, Between(0, 1 << 60)] | None = None
    dm: bool | int | None = None
    dm_concat: bool | int | None = None
    dm_mean: bool | int | None = None
    dbow_words: bool | int | None = None
    window: Count | None = None
    negative: Annotated[int, Between(0, 10_000)] | None = None
    epochs: Annotated[int, Between(1, 1_000_000)] | None = None
    sample: Annotated[float, Between(0.0, 1e6)] | None = None
    lr: Annotated[float, Between(0.0, 1e6)] | None = None
    min_lr: Annotated[float, Between(0.0, 1e6)] | None = None
    seed: int | None = None
    beyond: tuple[float, ...] | None = None


def write_own(folder: Path, table: Table) -> None:
    """Writes a table's files into a folder that is empty or does not exist.

    Raises:
        WeightsError: the disk refused.
    """
    config: dict[str, Any] = {"model_type": table.kind, **_config(table)}
    tensors = _tensors(table, "")
    folder.mkdir(exist_ok=True)
    write_json(folder / "keys.json", list(table.keys), indent=None)
    if table.words is not None:
        config[_WORDS] = _config(table.words)
        tensors |= _tensors(table.words, f"{_WORDS}.")
        write_json(folder / f"{_WORDS}.json", list(table.words.keys), indent=None)
    if table.tokenizer is not None:
        (folder / "tokenizer.json").write_bytes(table.tokenizer)
    save(folder / "model.safetensors", tensors)
    write_json(folder / "config.json", config)


def _config(table: Table) -> dict[str, Any]:
    grams = table.subwords
    subword_fields = (
        {} if grams is None else {"min_n": grams.min_n, "max_n": grams.max_n, "buckets": grams.number}
    )
    return {"dim": table.dim, **subword_fields, "settings": dict(table.settings)}


def _tensors(table: Table, prefix: str) -> dict[str, Array]:
    arrays: dict[str, Array | None] = {
        "vectors": table.vectors,
        "counts": table.counts,
        "weights": table.weights,
        "subwords": None if table.subwords is None else table.subwords.vectors,
        "buckets": None if table.subwords is None else table.subwords.buckets,
        "output": table.output,
    }
    if table.settings.get(STORED) == "int8":
        arrays["vectors"], arrays["scales"] = quantized(table.vectors)
    return {prefix + name: array for name, array in arrays.items() if array is not None}


def read_own(folder: Path, limit: int = 0) -> Table:
    """Reads a folder that `write_own` wrote.

    Raises:
        ModelError: a file is missing or damaged, or their contents do not fit together.
    """
    config = typed.table(_Config, folder / "config.json")
    if config.get("model_type") not in MODEL_TYPES:
        raise WeightsError(
            f"{folder}/config.json: model_type {brief(config.get('model_type'))} is none of {', '.join(MODEL_TYPES)}"
        )
    tensors = read_safetensors(folder / "model.safetensors")
    words = None
    if config.get(_WORDS) is not None:
        inner = typed.overlaid(_Config, config[_WORDS], folder / "config.json", _WORDS)
        words = _table(folder, _WORDS, inner, tensors, f"{_WORDS}.", None, None)
    tokenizer = folder / "tokenizer.json"
    tokenizer_json = tokenizer.read_bytes() if tokenizer.is_file() else None
    return limited(_table(folder, "keys", config, tensors, "", words, tokenizer_json), limit)


def _table(
    folder: Path,
    name: str,
    config: dict[str, Any],
    tensors: Weights,
    prefix: str,
    words: Table | None,
    tokenizer: bytes | None,
) -> Table:
    keys = read_json(folder / f"{name}.json", kind=list)
    if not all(isinstance(key, str) for key in keys):
        raise WeightsError(f"{folder}/{name}.json holds keys that are not strings")
    if (rows := first_rows(keys)) is not None:
        raise WeightsError(f"{folder}/{name}.json repeats {len(keys) - len(rows)} keys")
    matrices = {
        field: _part(folder, tensors, prefix + field)
        for field in ("vectors", "weights", "subwords", "output")
        if prefix + field in tensors
    }
    counts = (
        tensors[f"{prefix}counts"].data.astype(np.int64, copy=False) if f"{prefix}counts" in tensors else None
    )
    vectors, grams, output = matrices.get("vectors"), matrices.pop("subwords", None), matrices.get("output")
    dim = config.get("dim")
    if vectors is None or vectors.shape != (len(keys), dim) or type(dim) is not int:
        shape = None if vectors is None else vectors.shape
        raise WeightsError(
            f"{folder}: vectors of {shape} for {len(keys)} keys, and config.json says that dim is {brief(dim)}"
        )
    per_key = (counts, matrices.get("weights"))
    if any(array is not None and array.shape != (len(keys),) for array in per_key):
        raise WeightsError(f"{folder}: the number of counts or weights is not that of its {len(keys)} keys")
    settings = typed.overlaid(_Checked, config.get("settings") or {}, folder / "config.json", "settings")
    if settings.get("model") == "supervised" and (output is None or output.shape[1] != dim):
        raise WeightsError(
            f"{folder}: a classifier of {dim} dimensions without an output matrix of that size"
        )
    if len(settings.get("beyond") or [0.0] * dim) != dim:
        raise WeightsError(
            f"{folder}/config.json: beyond has {len(settings['beyond'])} numbers for {dim} dimensions"
        )
    subwords = None
    if grams is not None:
        subwords = _subwords(folder, grams, dim, config, settings, tensors.get(f"{prefix}buckets"))
    table = Table(
        keys,
        vectors,
        counts=counts,
        weights=matrices.get("weights"),
        subwords=subwords,
        output=output,
        words=words,
        tokenizer=tokenizer,
        settings=settings,
        kind="static" if prefix else config["model_type"],
    )
    if (why := contradiction(table)) is not None:
        raise WeightsError(f"{folder}/config.json: model_type is {table.kind!r}, but {why}")
    return table


def _subwords(
    folder: Path,
    rows: Floats,
    dim: int,
    config: dict[str, Any],
    settings: dict[str, Any],
    buckets: Tensor | None,
) -> Subwords:
    min_n, max_n, number = (config.get(name) or 0 for name in ("min_n", "max_n", "buckets"))
    bounds = Bounds.of(folder / "config.json")
    check_ngrams(bounds, min_n, max_n, settings.get("word_ngrams") or 1, number)
    if rows.shape[1] != dim:
        raise WeightsError(f"{folder}: n-grams of {rows.shape[1]} dimensions for keys of {dim}")
    if buckets is None:
        return Subwords(rows, min_n, max_n)
    bucket_ids = buckets.data
    ascending = (
        bucket_ids.shape == (len(rows),)
        and bucket_ids.dtype.kind in "iu"
        and bool((np.diff(bucket_ids) > 0).all())
    )
    if not ascending or (len(bucket_ids) and not 0 <= int(bucket_ids[0]) <= int(bucket_ids[-1]) < number):
        raise WeightsError(
            f"{folder}: its buckets are not {len(rows)} ascending numbers below {number}, one for each row"
        )
    return Subwords(rows, min_n, max_n, bucket_ids.astype(np.int32, copy=False), number)


def _part(folder: Path, tensors: Weights, name: str) -> Floats:
    """A tensor as float32, restored if it is stored as int8; its rank and numbers are checked."""
    tensor = tensors[name]
    if len(tensor.shape) != (1 if name.endswith("weights") else 2):
        raise WeightsError(f"{folder}: {name} has shape {tensor.shape}")
    if tensor.dtype != "I8":
        values = tensor.float32()
        if values.ndim == 2:
            check_finite(folder, values)
        return values
    scales = tensors.get(name.removesuffix("vectors") + "scales")
    if scales is None or scales.shape != tensor.shape[:1]:
        raise WeightsError(f"{folder}: {name} is int8 without a scale for each of {tensor.shape[0]} rows")
    return restored(tensor.data, scales.float32())
