"""From the names that a checkpoint was published with to the names that a family is written in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from omnivec.errors import WeightsError
from omnivec.weights.tensor import Tensor, Weights

# A pattern, matched against the whole name; the canonical name as a template of the pattern's groups ("\1"),
# None to drop the tensor, or several names to share out a fused tensor equally along its first axis;
# "transpose" for a matrix that was stored as (in, out), before it is shared out.
Name = str | tuple[str, ...] | None
Row = tuple[str, Name] | tuple[str, Name, Literal["transpose"]]

_Rule = tuple[re.Pattern[str], Name, bool]


def rename(weights: Weights, layouts: Sequence[Row]) -> Weights:
    """The tensors under their canonical names: the first row that matches wins, without one a name stays.

    Raises:
        WeightsError: two different tensors land on one name, or a fused tensor cannot be shared out.
    """
    rows = [(re.compile(row[0]), row[1], len(row) == 3) for row in layouts]
    return _collect(weights, (landed for tensor in weights.values() for landed in _apply(tensor, rows)))


def strip_prefixes(weights: Weights, prefixes: Sequence[str]) -> Weights:
    """The tensors without the longest of `prefixes` that more than half of their names begin with.

    Names that begin otherwise stay as they are. A prefix under another ("module.bert.") goes too, none twice.

    Raises:
        WeightsError: two different tensors land on one name, or would: one file holds two models.
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
    """Raises WeightsError where a tensor is there with and without a prefix, and differs: either may be meant."""
    for name, tensor in weights.items():
        for bare in (name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)):
            if bare in weights and not _same(weights[bare], tensor):
                raise WeightsError(
                    f"the weights hold two models: {bare!r} and {name!r} differ. Keep one of them in a copy of the file"
                )


def _apply(tensor: Tensor, rows: Sequence[_Rule]) -> Iterator[tuple[Tensor, str]]:
    """The tensors, with their names, that one published tensor becomes."""
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
            f"tensor {tensor.name!r} of shape {tensor.shape} cannot be cut into {count} parts."
        )
    for part in np.split(tensor.data, count):
        yield replace(tensor, shape=part.shape, data=part)


def _transpose(tensor: Tensor) -> Tensor:
    if len(tensor.shape) > 2:
        raise WeightsError(
            f"tensor {tensor.name!r} of shape {tensor.shape} is no matrix that could be transposed."
        )
    data = np.require(tensor.data.T, requirements=["C", "W"])
    return replace(tensor, shape=data.shape, data=data)


def _collect(source: Weights, landed: Iterator[tuple[Tensor, str]]) -> Weights:
    """The tensors under their new names; the same content twice under one name is one tensor."""
    tensors: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    for tensor, name in landed:
        if name in tensors and not _same(tensors[name], tensor):
            raise WeightsError(f"{origins[name]!r} and {tensor.name!r} differ and both become {name!r}.")
        tensors[name] = replace(tensor, name=name)
        origins[name] = tensor.name
    return Weights(tensors, source.files, source.metadata)


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal bit by bit, so that NaN equals itself."""
    bits = np.dtype(f"u{a.data.itemsize}")
    return (a.dtype, a.shape) == (b.dtype, b.shape) and bool(
        np.array_equal(a.data.view(bits), b.data.view(bits))
    )
