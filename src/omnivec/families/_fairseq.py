"""Checkpoints of fairseq: one file with the weights and the arguments of the training script, read as data."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnivec import weights
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.weights import Weights

Layers = tuple[tuple[int, int, int], ...]
"""Of each convolution: its channels, kernel and stride."""

_MOST_LAYERS = 1000


def read_checkpoint(folder: Path) -> tuple[Path, Mapping[str, Any], Weights] | None:
    """The checkpoint in a folder: its file, the settings of the model, and the weights; None if there is no `*.pt`.

    Raises:
        ModelError: the folder has several `*.pt`, or the checkpoint has no settings.
        WeightsError: the file is damaged, or would run code.
    """
    files = sorted(folder.glob("*.pt"))
    if not files:
        return None
    if len(files) > 1:
        raise ModelError(
            f"{folder} has {len(files)} checkpoints ({', '.join(f.name for f in files[:5])}): keep one"
        )
    checkpoint: Any = weights.read_torch(files[0])
    settings = _settings(checkpoint)
    if not settings:
        raise ModelError(f"{files[0]} has no settings under args or cfg: it is no checkpoint of fairseq")
    return files[0], settings, weights.read(files[0])


def _settings(checkpoint: Any) -> Mapping[str, Any]:
    """The model's settings: `args` of fairseq before 0.10, `cfg.model` of later versions, `cfg` of WavLM."""
    if not isinstance(checkpoint, Mapping):
        return {}
    for key in ("args", "cfg"):
        settings = checkpoint.get(key)
        if isinstance(settings, Mapping) and settings:
            model, task = settings.get("model"), settings.get("task")
            normalize = task.get("normalize") if isinstance(task, Mapping) else None
            return {"normalize": normalize, **model} if isinstance(model, Mapping) else settings
    return {}


def convolutions(text: str, file: Path | str) -> Layers:
    """The convolutions in a setting, a Python expression such as "[(512, 10, 5)] + [(512, 3, 2)] * 4".

    Only lists of whole numbers, sums of lists, and products with a number are understood; nothing is evaluated.

    Raises:
        UnsupportedModel: the text is anything else.
    """
    try:
        layers = _list(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        layers = []
    if not layers:
        raise UnsupportedModel(f"{file}: {text[:80]!r} is no list of convolutions (channels, kernel, stride)")
    return tuple(layers)


def _list(node: ast.expr) -> list[tuple[int, int, int]]:
    """The value of a list of triples; ValueError for any other expression."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            layers = _list(left) + _list(right)
        case ast.BinOp(left, ast.Mult(), ast.Constant(int(times))) if 0 < times <= _MOST_LAYERS:
            layers = _list(left)
            layers = layers * times if len(layers) * times <= _MOST_LAYERS else []
        case ast.List(items):
            layers = [_triple(item) for item in items]
        case _:
            raise ValueError
    if len(layers) > _MOST_LAYERS:
        raise ValueError
    return layers


def _triple(node: ast.expr) -> tuple[int, int, int]:
    """The value of (channels, kernel, stride); ValueError for any other expression."""
    match node:
        case ast.Tuple([ast.Constant(int(a)), ast.Constant(int(b)), ast.Constant(int(c))]):
            return a, b, c
    raise ValueError
