"""Finds and reads the weights of a model: the file in its folder, its shards, the state dict in a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from omnivec.errors import WeightsError
from omnivec.validation.reasons import of_system, one_line
from omnivec.weights.bounds import Bounds, brief
from omnivec.weights.numpyfile import read_npz
from omnivec.weights.safetensors import read_safetensors
from omnivec.weights.tensor import Tensor, Weights, from_array, map_file
from omnivec.weights.torchfile import read_torch

# Files for which a folder is searched, in this order; a pattern counts only if it matches a single file.
CANDIDATES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "*.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "*.npz",
    "*.pth",
)
# Files with changes of a model's weights, not weights of their own; see `adapters`.
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
# Keys under which training scripts store the state dict in a checkpoint.
WRAPPERS = ("state_dict", "model_state_dict", "model", "model_state")

_NAMED = 256  # bytes of memory for a tensor or a table, without its name


def read(source: Path) -> Weights:
    """Reads the tensors of a model's folder or of one weight file.

    Args:
        source: a folder, which is searched for `CANDIDATES` in their order; or a file: safetensors, npz, an index of
            shards (`*.index.json`), or, with any other suffix, a torch checkpoint.

    Returns:
        The tensors by their published names; views of the memory-mapped file if possible.

    Raises:
        WeightsError: nothing is found, or a file is damaged, incomplete or unsafe.
    """
    path = Path(source)
    file = _find(path) if path.is_dir() else path
    if file.name.endswith(".json"):
        return _read_shards(file)
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    if file.suffix == ".npz":
        return Weights({name: from_array(name, array) for name, array in read_npz(file).items()}, (file,))
    return Weights(_state_dict(file), (file,))


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights of a model; those of an adapter do not count."""
    return any(_matches(folder, pattern) for pattern in CANDIDATES)


def _matches(folder: Path, pattern: str) -> list[Path]:
    return sorted(file for file in folder.glob(pattern) if file.name not in ADAPTERS)


def _find(folder: Path) -> Path:
    """The weight file of a folder."""
    several = []
    for pattern in CANDIDATES:
        matches = _matches(folder, pattern)
        if len(matches) == 1:
            return matches[0]
        several += [file.name for file in matches]
    looked = f"looked for {', '.join(CANDIDATES)}"
    if several:
        raise WeightsError(
            f"{folder} has {len(several)} weight files ({', '.join(several[:5])}): name one of them."
        )
    raise WeightsError(f"{folder} has no weights: {looked}; pass the path of a file that has another name.")


def _read_shards(index: Path) -> Weights:
    """Reads the tensors of all files that an index names."""
    try:
        shard_of = json.loads(map_file(index).tobytes())["weight_map"]
        shards = sorted(set(shard_of.values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise WeightsError(
            f"{index}: no weight_map of tensors to files can be read from it: {one_line(exc)}."
        ) from exc
    tensors: dict[str, Tensor] = {}
    files: list[Path] = []
    metadata: dict[str, str] = {}
    for shard in shards:
        shard_tensors = read(_inside(index, shard))
        if twice := sorted(tensors.keys() & shard_tensors.keys()):
            raise WeightsError(
                f"{index}: {len(twice)} tensors are in two shards, such as {twice[0]!r} in {shard}."
            )
        tensors |= shard_tensors
        files += shard_tensors.files
        metadata |= shard_tensors.metadata
    if missing := [name for name in shard_of if name not in tensors]:
        raise WeightsError(
            f"{index}: {len(missing)} of {len(shard_of)} tensors are missing in its {len(shards)} shards, "
            f"such as {missing[0]!r}."
        )
    return Weights(tensors, (index, *files), metadata)


def _inside(index: Path, shard: object) -> Path:
    """The path of a shard, which must lie in the folder of its index."""
    if not isinstance(shard, str) or not shard:
        raise WeightsError(f"{index}: {brief(shard)} is not a file name.")
    for pure in (PurePosixPath(shard), PureWindowsPath(shard)):
        if pure.anchor or ".." in pure.parts or pure.suffix == ".json":
            raise WeightsError(
                f"{index}: shard {brief(shard)} is not a weight file in the folder of its index: refused."
            )
    file = index.parent / shard
    try:
        exists = file.is_file()
    except (OSError, ValueError) as exc:  # a name that is too long, or has a NUL
        raise WeightsError(f"{index}: shard {brief(shard)} is not a file name: {of_system(exc)}.") from exc
    if not exists:
        raise WeightsError(f"{index}: shard {shard[:200]} is missing in {index.parent}: download it again.")
    return file


def _state_dict(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a torch checkpoint, by their names in the state dict."""
    checkpoint = read_torch(path)
    if not isinstance(checkpoint, Mapping):
        raise WeightsError(
            f"{path} holds a {type(checkpoint).__name__}, not a dict of tensors: give a state dict."
        )
    while inner := next((name for name in WRAPPERS if isinstance(checkpoint.get(name), Mapping)), None):
        checkpoint = checkpoint[inner]
    tensors = {name: replace(tensor, name=name) for name, tensor in _leaves(Bounds.of(path), checkpoint)}
    if not tensors:
        raise WeightsError(
            f"{path} holds no tensors under {', '.join(map(brief, list(checkpoint)[:8])) or 'nothing'}."
        )
    return tensors


def _leaves(bounds: Bounds, table: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of nested dicts, named by their paths.

    A dict that is contained in several others is reached once through each, so the number of names may grow
    exponentially; their memory is counted.
    """
    for key, value in table.items():
        if isinstance(value, (Tensor, Mapping)):
            if not isinstance(key, (str, int)):
                raise bounds.error(f"a tensor named {brief(key)}, which is not a text")
            bounds.spend("the names of its tensors", len(prefix) + _NAMED)
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from _leaves(bounds, value, f"{prefix}{key}.")
