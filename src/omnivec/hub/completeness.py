"""Which files of a published model to download, and whether a folder holds a complete model."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

_DESCRIPTIONS = (".json", ".txt", ".model", ".yaml")
# In order of preference: of each folder of a repository, the files of the first matching group are used. Per folder,
# because a repository with safetensors at its top may have the weights of a later module in another format only.
_WEIGHTS = (
    ("*.safetensors",),
    ("pytorch_model*.bin",),
    ("*.ckpt", "*.pt", "*.pth", "*.npz"),
    ("model.bin",),  # CTranslate2
)
_LEFT_BY_TRAINING = {"optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth"}
# In order of preference: weights of an adapter, which change those of another model or of the one in the folder.
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
# One of these stands beside the weights of a model; config.yaml in models of WeSpeaker and pyannote.
_CONFIGS = {"config.json", "modules.json", "adapter_config.json", "config.yaml"}
# Names of folders with copies of the same weights for other programs.
_OTHER_ENGINES = {"onnx", "openvino", "coreml", "tensorflow", "tf", "tflite", "flax", "rust", "gguf"}


def useful(files: Iterable[str]) -> list[str]:
    """Those of `files` (relative paths with "/") that omnivec can use.

    Weights come last, so that a download in this order that has the weights is complete.
    """
    names_in: dict[PurePosixPath, list[str]] = defaultdict(list)
    for file in files:
        path = PurePosixPath(file)
        if not any(part.lower() in _OTHER_ENGINES or part.startswith(".") for part in path.parts):
            names_in[path.parent].append(path.name)
    small, large = [], []
    for folder, names in names_in.items():
        large += [str(folder / name) for name in _weights(names)]
        small += [str(folder / name) for name in names if name.endswith(_DESCRIPTIONS)]
    return sorted(small) + sorted(large)


def weights(files: Iterable[str]) -> list[str]:
    """The weight files among `files`."""
    return [file for file in useful(files) if not file.endswith(_DESCRIPTIONS)]


def _weights(names: list[str]) -> list[str]:
    """The weight files among the names in one folder: one copy, without variants in other precisions."""
    adapters = next(([name] for name in _ADAPTERS if name in names), [])
    names = [name for name in names if name not in _ADAPTERS]
    for patterns in _WEIGHTS:
        files = [
            name
            for name in names
            if name not in _LEFT_BY_TRAINING and any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        shards = [name for name in files if fnmatchcase(name, "model-*-of-*.safetensors")]
        if "model.safetensors" in files:
            return ["model.safetensors", *adapters]
        if shards and "model.safetensors.index.json" in names:
            return shards + adapters
        if files:
            return files + adapters
    return adapters


def is_whole(folder: Path, sha256: Mapping[str, str]) -> bool:
    """Whether a cached `folder` has all files that a model needs.

    Other programs share the hub's cache, and may have been interrupted or may have downloaded some files only.
    """
    if sha256 and all((folder / file).is_file() for file in sha256):
        return True
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if not weights(files) or not files & _CONFIGS:
        return False
    return _needed(folder, files) <= files


def _needed(folder: Path, files: set[str]) -> set[str]:
    """The files that lists in the folder name: shards, settings of modules, weights of an adapter."""
    needed: set[str] = set()
    try:
        for index in (file for file in files if file.endswith(".safetensors.index.json")):
            shards = json.loads((folder / index).read_text("utf-8"))["weight_map"].values()
            needed |= {str(PurePosixPath(index).parent / shard) for shard in shards}
        for file in files:
            folder_of, name = PurePosixPath(file).parent, PurePosixPath(file).name
            if name == "adapter_config.json" and not {str(folder_of / one) for one in _ADAPTERS} & files:
                needed.add(str(folder_of / _ADAPTERS[0]))
        if "modules.json" in files:
            for module in json.loads((folder / "modules.json").read_text("utf-8")):
                # Modules without settings (Normalize) have a path and yet no folder.
                if module["type"].endswith(("Pooling", "Dense")):
                    needed.add(f"{module['path']}/config.json")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {"a list of files that can be read"}
    return needed
