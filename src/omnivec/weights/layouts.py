r"""Renames the tensors of a checkpoint from published names to those that the family's code uses.

A worked example of `strip_prefixes`, then `rename`:

    published                                   prefixes ("model.", "module.")   layouts
    module.model.h.0.attn.qkv.weight  (12, 4)   h.0.attn.qkv.weight    layers.0.q.weight, .k.weight, .v.weight  (4, 4)
    module.model.h.0.proj             (3, 5)    h.0.proj               layers.0.out.weight  (5, 3)
    module.model.h.0.norm.weight      (4,)      h.0.norm.weight        h.0.norm.weight  (no row matches)
    module.model.head.weight          (2, 4)    head.weight            dropped

    layouts = [
        (r"h\.(\d+)\.attn\.qkv\.weight", (r"layers.\1.q.weight", r"layers.\1.k.weight", r"layers.\1.v.weight")),
        (r"h\.(\d+)\.proj", r"layers.\1.out.weight", "transpose"),
        (r"head\..*", None),
    ]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from omnivec.errors import WeightsError
from omnivec.weights.tensor import Tensor, Weights

# A pattern, which has to match the whole name; then the new name as a template with the pattern's groups ("\1"), None
# to drop the tensor, or several names for equal parts of a fused tensor along its first axis; then perhaps
# "transpose", for a matrix that is stored as (in, out), which is done before it is split.
Name = str | tuple[str, ...] | None
Row = tuple[str, Name] | tuple[str, Name, Literal["transpose"]]

_Rule = tuple[re.Pattern[str], Name, bool]


def rename(weights: Weights, layouts: Sequence[Row]) -> Weights:
    """The tensors by their canonical names: the first matching row applies; a name without a match stays.

    Raises:
        WeightsError: two different tensors get the same name, or a fused tensor cannot be split equally.
    """
    rows = [(re.compile(row[0]), row[1], len(row) == 3) for row in layouts]
    return _collect(weights, (landed for tensor in weights.values() for landed in _apply(tensor, rows)))


def strip_prefixes(weights: Weights, prefixes: Sequence[str]) -> Weights:
    """The tensors without those of `prefixes` that more than half of the names begin with, the longest first.

    Names without the prefix stay as they are. Nested prefixes ("module.bert.") are removed one by one, each once.

    Raises:
        WeightsError: two different tensors get the same name, or would: the file holds two models.
    """
    left = sorted(prefixes, key=len, reverse=True)
    while True:
        shared = (p for p in left if 2 * sum(name.startswith(p) for name in weights) > len(weights))
        prefix = next(shared, None)
        if prefix is None:
            _refuse_second(weights, left)
            return weights
        left.remove(prefix)
        weights = _collect(weights, ((tensor, name.removeprefix(prefix)) for name, tensor in weights.items()))


def _refuse_second(weights: Weights, prefixes: Sequence[str]) -> None:
    """Raises WeightsError if a tensor exists with and without a prefix and the two differ: either could be meant."""
    for name, tensor in weights.items():
        for bare in (name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)):
            if bare in weights and not _same(weights[bare], tensor):
                raise WeightsError(
                    f"the weights hold two models: {bare!r} and {name!r} differ. Keep one of them in a copy of the file"
                )


def _apply(tensor: Tensor, rows: Sequence[_Rule]) -> Iterator[tuple[Tensor, str]]:
    """The tensors that one published tensor becomes, with their new names."""
    rule, match = next(((rule, m) for rule in rows if (m := rule[0].fullmatch(tensor.name))), (None, None))
    if rule is None or match is None:
        yield tensor, tensor.name
        return
    _, template, transposed = rule
    whole = _transpose(tensor) if transposed and template is not None else tensor
    if isinstance(template, str):
        yield whole, match.expand(template)
    elif template is not None:
        for part, name in zip(_split(whole, len(template)), template, strict=True):
            yield part, match.expand(name)


def _split(tensor: Tensor, count: int) -> Iterator[Tensor]:
    if not tensor.shape or tensor.shape[0] % count:
        raise WeightsError(
            f"tensor {tensor.name!r} of shape {tensor.shape} cannot be split into {count} equal parts."
        )
    for part in np.split(tensor.data, count):
        yield replace(tensor, shape=part.shape, data=part)


def _transpose(tensor: Tensor) -> Tensor:
    if len(tensor.shape) > 2:
        raise WeightsError(
            f"tensor {tensor.name!r} of shape {tensor.shape} is not a matrix and cannot be transposed."
        )
    data = np.require(tensor.data.T, requirements=["C", "W"])
    return replace(tensor, shape=data.shape, data=data)


def _collect(source: Weights, landed: Iterator[tuple[Tensor, str]]) -> Weights:
    """The tensors by their new names; two tensors of the same name and content count as one."""
    tensors: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    for tensor, name in landed:
        if name in tensors and not _same(tensors[name], tensor):
            raise WeightsError(f"{origins[name]!r} and {tensor.name!r} differ and both become {name!r}.")
        tensors[name] = replace(tensor, name=name)
        origins[name] = tensor.name
    return Weights(tensors, source.files, source.metadata)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal bit by bit, so that NaN equals itself."""
    bits = np.dtype(f"u{a.data.itemsize}")
    return (a.dtype, a.shape) == (b.dtype, b.shape) and bool(
        np.array_equal(a.data.view(bits), b.data.view(bits))
    )
