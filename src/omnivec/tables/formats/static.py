"""Tables of token vectors with their tokenizer: model2vec and sentence-transformers' StaticEmbedding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import UnsupportedModel, UsageError, WeightsError
from omnivec.tables.checks import check_finite, limited
from omnivec.tables.record import Table
from omnivec.tables.subwords import composed
from omnivec.types import Floats
from omnivec.validation import typed
from omnivec.validation.json_files import part_of, write_json
from omnivec.validation.reasons import of_system, one_line
from omnivec.weights.bounds import TIMES, Bounds, brief
from omnivec.weights.checkpoints import read
from omnivec.weights.safetensors import save
from omnivec.weights.sentence_files import SentenceConfig, modules
from omnivec.weights.tensor import Weights

MODULE = "sentence_transformers.models.StaticEmbedding"
NORMALIZE = "sentence_transformers.models.Normalize"


@dataclass(frozen=True)
class _Config:
    """The fields of model2vec's config.json whose types are checked."""

    normalize: bool | None = None
    drop_unknown: bool | None = None
    prompts: Mapping[str, str] | None = None
    default_prompt_name: str | None = None


def read_model2vec(folder: Path, limit: int = 0) -> Table:
    """Reads model.safetensors (`embeddings`; in newer versions also `mapping` and `weights`) and tokenizer.json.

    A `mapping`, by which tokens share rows, is applied: the table has one row per token.

    Raises:
        ModelError: a file is missing or damaged, or their contents do not fit together.
    """
    return limited(_table(folder, folder, typed.table(_Config, folder / "config.json")), limit)


def read_static_embedding(folder: Path, limit: int = 0) -> Table:
    """Reads a folder whose modules.json lists a StaticEmbedding, of any version, and perhaps a Normalize.

    Returns:
        A table in which `settings["normalize"]` tells whether there is a Normalize.

    Raises:
        ModelError: a file is missing or damaged, or other modules are listed.
    """
    listed = modules(folder)
    kinds = [each.kind for each in listed]
    if kinds[:1] != ["StaticEmbedding"] or kinds[1:] not in ([], ["Normalize"]):
        raise WeightsError(
            f"{folder}/modules.json lists {', '.join(kinds)}; only a StaticEmbedding, alone or followed by a "
            "Normalize, is supported"
        )
    path = listed[0].path
    config = {
        name: value
        for name, value in typed.table(
            SentenceConfig, folder / "config_sentence_transformers.json", {}
        ).items()
        if name in ("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim")
    }
    length = config.pop("truncate_dim", None)
    if length is not None and len(kinds) > 1:
        raise UnsupportedModel(
            f"{folder}/config_sentence_transformers.json: truncate_dim {length!r} after a Normalize is not supported"
        )
    config |= {"normalize": len(kinds) > 1, "drop_unknown": False}
    table = _table(folder, part_of(folder, path, "modules.json"), config)
    if length is not None:  # the mean of truncated rows is the truncated mean
        table = replace(table, vectors=np.ascontiguousarray(table.vectors[:, : int(length)]))
    return limited(table, limit)


def _table(folder: Path, part: Path, settings: dict[str, Any]) -> Table:
    tensors = read(part)
    name = "embeddings" if "embeddings" in tensors else "embedding.weight"
    if name not in tensors or len(tensors[name].shape) != 2:
        raise WeightsError(f"{folder}: no matrix embeddings or embedding.weight; it has {', '.join(tensors)}")
    rows = _mapped(folder, tensors, tensors[name].float32())
    try:
        tokenizer = (part / "tokenizer.json").read_bytes()
    except OSError as error:
        raise WeightsError(f"{part}/tokenizer.json cannot be read: {of_system(error)}") from error
    weights = tensors["weights"].float32() if "weights" in tensors else None
    if weights is not None and weights.shape != (len(rows),):
        raise WeightsError(f"{folder}: weights of {weights.shape} for {len(rows)} rows")
    check_finite(folder, rows)
    return Table(
        _tokens(folder, tokenizer, len(rows)), rows, weights=weights, tokenizer=tokenizer, settings=settings
    )


def _mapped(folder: Path, tensors: Weights, rows: Floats) -> Floats:
    """The row of each token: `rows`, or rows[mapping] if there is a mapping."""
    if "mapping" not in tensors:
        return rows
    mapping = tensors["mapping"].data
    stored = Bounds(tensors.files[0], sum(tensor.data.nbytes for tensor in tensors.values()))
    if mapping.ndim != 1 or mapping.dtype.kind not in "iu":
        raise WeightsError(f"{folder}: a mapping of {mapping.dtype} {mapping.shape}")
    if mapping.size and not 0 <= int(mapping.min()) <= int(mapping.max()) < len(rows):
        raise WeightsError(f"{folder}: a mapping to rows {mapping.min()} to {mapping.max()} of {len(rows)}")
    stored.spend("a row for each token", 4 * len(mapping) * rows.shape[1], times=4 * TIMES)
    return rows[mapping]


def _tokens(folder: Path, tokenizer: bytes, rows: int) -> list[str]:
    """The token of each row, from tokenizer.json; "[row 7]" for a row without one."""
    try:
        described = json.loads(tokenizer)
        vocabulary = described["model"]["vocab"]
        if isinstance(vocabulary, list):  # Unigram: pairs of token and score
            vocabulary = {pair[0]: number for number, pair in enumerate(vocabulary)}
        ids = dict(vocabulary) | {each["content"]: each["id"] for each in described.get("added_tokens") or ()}
        if bad_tokens := [
            token for token, number in ids.items() if type(token) is not str or type(number) is not int
        ]:
            raise TypeError(
                f"token {brief(bad_tokens[0])} is not a string, or its id {brief(ids[bad_tokens[0]])} is not an integer"
            )
        last = max(ids.values(), default=-1)
        first = min(ids.values(), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise WeightsError(
            f"{folder}: the vocabulary in tokenizer.json cannot be read ({one_line(error)})"
        ) from error
    if first < 0 or last >= rows:
        raise WeightsError(f"{folder}: tokens with ids {brief(first)} to {brief(last)} for {rows} rows")
    tokens = [f"[row {row}]" for row in range(rows)]
    for token, number in ids.items():
        tokens[number] = token
    return tokens


def write_model2vec(folder: Path, table: Table) -> None:
    """Writes a model that model2vec and sentence-transformers load, into a folder that is empty or does not exist.

    Raises:
        UsageError: the table has no tokenizer.
        WeightsError: the disk refused.
    """
    tensors = {"embeddings": composed(table)}
    if table.weights is not None:
        tensors["weights"] = table.weights
    normalize = bool(table.settings.get("normalize", False))
    config = {"model_type": "model2vec", "architectures": ["StaticModel"], **table.settings}
    config |= {"normalize": normalize, "embedding_dtype": "float32", "hidden_dim": table.dim}
    config.pop("vocabulary_quantization", None)
    _write(folder, table, tensors, normalize)
    write_json(folder / "config.json", config)


def write_static_embedding(folder: Path, table: Table) -> None:
    """Writes a sentence-transformers model into a folder that is empty or does not exist.

    Its format has no weights, so each vector is multiplied by its weight.

    Raises:
        UsageError: the table has no tokenizer.
        WeightsError: the disk refused.
    """
    rows = composed(table)
    if table.weights is not None:
        rows = rows * table.weights[:, None]
    card = {
        name: value for name, value in table.settings.items() if name in ("prompts", "default_prompt_name")
    }
    _write(folder, table, {"embedding.weight": rows}, bool(table.settings.get("normalize", False)))
    write_json(folder / "config_sentence_transformers.json", card)


def _write(folder: Path, table: Table, tensors: dict[str, Floats], normalize: bool) -> None:
    if table.tokenizer is None:
        raise UsageError(
            f"a table of {len(table)} keys has no tokenizer, which model2vec and StaticEmbedding need: write omnivec"
        )
    folder.mkdir(exist_ok=True)
    save(folder / "model.safetensors", tensors, {"format": "pt"})
    (folder / "tokenizer.json").write_bytes(table.tokenizer)
    modules = [("", MODULE), ("1_Normalize", NORMALIZE)][: 1 + normalize]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": type_name}
        for i, (path, type_name) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)
