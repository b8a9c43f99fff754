"""LoRA adapters as peft saves them, with or without the base model's weights; merged into the weights when loaded.

Hu et al. 2021, arXiv:2106.09685: W + s B A, with s = alpha / r; Kalajdzievski 2023, arXiv:2312.03732 (rsLoRA):
s = alpha / sqrt(r); Liu et al. 2024, arXiv:2402.09353 (DoRA): the rows of W + s B A, scaled to learned lengths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.types import Floats
from omnivec.validation import typed
from omnivec.validation.typed import Between, Index, Size
from omnivec.weights.checkpoints import ADAPTERS, read
from omnivec.weights.layouts import Row
from omnivec.weights.tensor import Tensor, Weights, from_array

CONFIG = "adapter_config.json"
ALPHA = 8.0
"""peft's default of lora_alpha."""

# Keys of adapter_config.json that are applied or compared with the tensors; and keys about training, which are ignored.
OBEYED = (
    *("peft_type", "base_model_name_or_path", "revision", "r", "lora_alpha", "rank_pattern", "alpha_pattern"),
    *(
        "use_rslora",
        "use_dora",
        "fan_in_fan_out",
        "bias",
        "lora_bias",
        "modules_to_save",
        "init_lora_weights",
    ),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
)
SHOWN = (
    *("lora_dropout", "task_type"),
    *(
        "inference_mode",
        "auto_mapping",
        "peft_version",
        "megatron_core",
        "qalora_group_size",
        "runtime_config",
    ),
    *("ensure_weight_tying", "eva_config", "parent_library"),
)
# Heads for other tasks, which embeddings do not need.
HEADS = r"(.+\.)?(classifier|score|lm_head|pooler|cls|qa_outputs)(\..+)?"
Factor = Annotated[float, Between(-1e9, 1e9)]
# Initialisations that also changed the weights of the base, which only peft can repeat.
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class _Config:
    """The keys of adapter_config.json whose types are checked."""

    base_model_name_or_path: str | None = None
    revision: str | None = None
    lora_alpha: Factor | None = None
    alpha_pattern: Mapping[str, Factor] | None = None
    rank_pattern: Mapping[str, Size] | None = None
    use_rslora: bool | None = None
    use_dora: bool | None = None
    lora_bias: bool | None = None
    r: Size | None = None
    target_modules: str | tuple[str, ...] | None = None
    exclude_modules: str | tuple[str, ...] | None = None
    layers_to_transform: Index | tuple[Index, ...] | None = None
    layers_pattern: str | tuple[str, ...] | None = None


_PART = re.compile(
    r"(?P<module>.+)\.lora_(?P<part>A|B|embedding_A|embedding_B|magnitude_vector)(?:\.default)?(?P<leaf>\.weight|\.bias)?"
)
_WHOLE = re.compile(r"(?P<module>.+?)(?:\.modules_to_save(?:\.default)?|\.base_layer)?\.(?P<leaf>[^.]+)")


@dataclass(frozen=True)
class Adapter:
    """An adapter that was read from a folder.

    Attributes:
        folder: from which it was read.
        config: content of adapter_config.json.
        tensors: by their published names without "base_model.model.".
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def base(self) -> str:
        """The name of the model on which it was trained; "" if the config has none."""
        name, revision = (self.config.get(key) or "" for key in ("base_model_name_or_path", "revision"))
        is_local = Path(name).is_absolute() or name.startswith(".")
        return f"{name}@{revision}" if name and revision and not is_local else name

    def scale(self, module: str, rank: int) -> float:
        """The factor on B A for one module."""
        patterns = self.config.get("alpha_pattern") or {}
        alpha = patterns.get(_pattern_of(patterns, module), self.config.get("lora_alpha"))
        alpha = ALPHA if alpha is None else alpha
        return alpha / (rank**0.5 if self.config.get("use_rslora") else rank)

    def rank(self, module: str) -> int | None:
        """The rank for one module by the config; None if the config has none."""
        patterns = self.config.get("rank_pattern") or {}
        rank: int | None = patterns.get(_pattern_of(patterns, module), self.config.get("r"))
        return rank


def read_adapter(folder: Path) -> Adapter | None:
    """Reads the adapter in a folder; None if there is none.

    Raises:
        ModelError: its config cannot be read.
        UnsupportedModel: it is not LoRA, or a variant that is not covered.
        WeightsError: its weights are missing or damaged.
    """
    file = folder / CONFIG
    if not file.is_file():
        return None
    config = typed.table(_Config, file)
    _refuse(config, file)
    weights_file = next((folder / name for name in ADAPTERS if (folder / name).is_file()), None)
    if weights_file is None:
        raise WeightsError(
            f"{file} describes an adapter, but {' or '.join(ADAPTERS)} is missing: fetch it again"
        )
    return Adapter(folder, config, {_shorter(name): tensor for name, tensor in read(weights_file).items()})


def _shorter(name: str) -> str:
    return name.removeprefix("base_model.model.")


def _refuse(config: Mapping[str, Any], file: Path) -> None:
    peft_type = config.get("peft_type")
    if peft_type != "LORA":
        raise UnsupportedModel(
            f"{file}: peft_type {peft_type!r} is not covered, only 'LORA': merge it into its base with peft "
            "(merge_and_unload) and load the result"
        )
    first = config.get("init_lora_weights", True)
    if isinstance(first, str) and first.lower().startswith(CHANGES_BASE):
        raise UnsupportedModel(
            f"{file}: init_lora_weights {first!r} changed the weights of its base too: convert the adapter with peft "
            "(path_initial_model_for_weight_conversion), or merge it there"
        )
    for key, value in config.items():
        if key not in OBEYED and key not in SHOWN and not typed.says_nothing(value):
            raise UnsupportedModel(f"{file}: {key} {value!r} is not covered: merge the adapter with peft")
    for name in ("rank_pattern", "alpha_pattern"):
        for pattern in config.get(name) or {}:
            if not re.fullmatch(r"\^?[\w.-]+", pattern):
                raise UnsupportedModel(
                    f"{file}: {name} has {pattern!r}; only names and parts of names are covered, not other patterns"
                )


def _pattern_of(patterns: Iterable[str], module: str) -> str:
    """The first pattern that matches the end of a module's name; the name itself if none does."""
    return next((one for one in patterns if re.fullmatch(rf"(.*\.)?({one})", module)), module)


def _named(names: object, module: str) -> bool | None:
    """Whether a list of modules has this one, compared by the ends of names; None if `names` is not a list.

    A str is a regular expression, and is not evaluated: one from a file may take forever.
    """
    if not isinstance(names, list | tuple):
        return None
    # Either name may have a prefix that the other lacks.
    return any(f".{module}".endswith(f".{name}") or name.endswith(f".{module}") for name in names)


def _has_layer(config: Mapping[str, Any], module: str) -> bool:
    """Whether `layers_to_transform` has the layer of a module; True if there is no such list, or no layer."""
    layers, pattern = (_listed(config.get(key)) for key in ("layers_to_transform", "layers_pattern"))
    names = "|".join(map(re.escape, pattern)) or "[^.]*"
    match = re.search(rf"(?:^|\.)(?:{names})\.(\d+)\.", module)
    return not layers or match is None or int(match[1]) in layers


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else () if value is None or value == "" else (value,)


def _check_config(adapter: Adapter, module: str, parts: Mapping[str, Tensor]) -> None:
    """Raises WeightsError if the config leaves out tensors that the file has for a module: peft would not load them."""
    config = adapter.config
    mismatches = {
        "target_modules": _named(config.get("target_modules"), module) is False,
        "exclude_modules": _named(config.get("exclude_modules"), module) is True,
        "layers_to_transform": not _has_layer(config, module),
        "use_dora": "magnitude_vector" in parts and not config.get("use_dora"),
        "lora_bias": "B.bias" in parts and not config.get("lora_bias"),
    }
    if keys := [key for key, left_out in mismatches.items() if left_out]:
        raise WeightsError(
            f"{adapter.folder / CONFIG}: {keys[0]} {config.get(keys[0])!r} does not fit the tensors that the adapter's "
            f"file has for {module}: they do not belong together"
        )
    first = parts.get("A", parts.get("embedding_A"))
    rank = adapter.rank(module)
    if first is not None and rank is not None and first.shape[:1] != (rank,):
        raise WeightsError(
            f"{adapter.folder / CONFIG}: r is {rank} at {module}, but lora_A has the shape {first.shape}"
        )


def merged(
    stored: Weights,
    adapter: Adapter,
    prefixes: Sequence[str] = (),
    layouts: Sequence[Row] = (),
    in_out: bool = False,
) -> Weights:
    """The weights of a base with an adapter applied; those that it changes are float32.

    Args:
        stored: weights of the base, by their published names.
        adapter: as `read_adapter` returns it.
        prefixes: prefixes that names of one of the two may have and the other's lack.
        layouts: of the family; changes of tensors that they drop are ignored.
        in_out: whether linear maps are stored as (in, out).

    Raises:
        WeightsError: the adapter changes a tensor that the base does not have, or that has another shape.
    """
    tensors = dict(stored)
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in adapter.tensors.items():
        if match := _PART.fullmatch(name):
            part = match["part"] + (".bias" if match["leaf"] == ".bias" else "")
            modules.setdefault(match["module"], {})[part] = tensor
            continue
        whole = _WHOLE.fullmatch(name)
        full = f"{whole['module']}.{whole['leaf']}" if whole else name
        place = _place(tensors, full, prefixes)
        if place is None:
            _check_dropped(full, adapter, prefixes, layouts)
        elif tensors[place].shape != tensor.shape:
            raise WeightsError(
                f"{adapter.folder}: {name} has shape {tensor.shape}, its base {tensors[place].shape}: save the base "
                "with as many tokens as the adapter has"
            )
        else:
            tensors[place] = replace(tensor, name=place)
    for module, parts in modules.items():
        _check_config(adapter, module, parts)
        place = _place(tensors, f"{module}.weight", prefixes)
        if place is None:
            _check_dropped(f"{module}.weight", adapter, prefixes, layouts)
        else:
            tensors[place] = from_array(place, _changed(tensors[place], adapter, module, parts, in_out))
            _add_bias(tensors, place, adapter, module, parts)
    return Weights(tensors, (*stored.files, adapter.folder / CONFIG), stored.metadata)


def _place(tensors: Mapping[str, Tensor], name: str, prefixes: Sequence[str]) -> str | None:
    """The name of the base's weight to which an adapter's name refers; None if there is none."""
    names = _shortened(name, prefixes)
    tensor_name = next((one for one in names if one in tensors), None)
    if tensor_name is None:
        longer = [one for one in tensors if one.endswith(f".{name}")]
        tensor_name = longer[0] if len(longer) == 1 else None
    return tensor_name


def _shortened(name: str, prefixes: Sequence[str]) -> list[str]:
    """A name, and its forms without one or more of the prefixes."""
    names = [name]
    for one in names:
        names += [one.removeprefix(p) for p in prefixes if one.startswith(p) and one != p]
    return names


def _check_dropped(name: str, adapter: Adapter, prefixes: Sequence[str], layouts: Sequence[Row]) -> None:
    """Raises WeightsError unless a tensor is one that the family ignores, of a head or a decoder."""
    if re.fullmatch(HEADS, name):
        return
    for one in _shortened(name, prefixes):
        row = next((row for row in layouts if re.fullmatch(row[0], one)), None)
        if row is not None and row[1] is None:
            return
    raise WeightsError(
        f"{adapter.folder}: the adapter changes {name!r}, which its base does not have: they do not belong together"
    )


def _changed(
    weight: Tensor, adapter: Adapter, module: str, parts: Mapping[str, Tensor], in_out: bool
) -> Floats:
    """A weight of the base with the adapter's change applied."""
    prefix = "embedding_" if "embedding_A" in parts else ""
    if f"{prefix}A" not in parts or f"{prefix}B" not in parts:
        raise WeightsError(
            f"{adapter.folder}: {module} has only one of lora_A and lora_B: the file is incomplete"
        )
    a, b = (parts[f"{prefix}{side}"].float32() for side in "AB")
    rank = a.shape[0]
    b = b.reshape(len(b), -1)  # That of a convolution is (out, r, 1, 1).
    if b.shape[1] != rank:
        raise WeightsError(
            f"{adapter.folder}: {module} has lora_A {a.shape} and lora_B {b.shape}: their ranks differ"
        )
    flips = bool(prefix) or (len(weight.shape) == 2 and in_out)
    delta = adapter.scale(module, rank) * (b @ a.reshape(rank, -1))
    base = weight.float32()
    shape = base.shape[::-1] if flips else base.shape
    if delta.size != base.size or (len(base.shape) == 2 and delta.shape != shape):
        raise WeightsError(
            f"{adapter.folder}: {module} changes a weight of shape {delta.shape}, but its base has {base.shape}"
        )
    base = base.T if flips else base
    changed = base + delta.reshape(base.shape)
    if "magnitude_vector" in parts:
        if prefix or len(base.shape) != 2:
            raise UnsupportedModel(f"{adapter.folder}: use_dora at {module}: only linear maps are covered")
        lengths = parts["magnitude_vector"].float32().reshape(-1, 1)
        changed = changed * (lengths / np.linalg.norm(changed, axis=1, keepdims=True))
    elif adapter.config.get("use_dora"):
        raise WeightsError(f"{adapter.folder}: use_dora is set, but {module} has no lora_magnitude_vector")
    result: Floats = np.ascontiguousarray(changed.T if flips else changed, np.float32)
    return result


def _add_bias(
    tensors: dict[str, Tensor], place: str, adapter: Adapter, module: str, parts: Mapping[str, Tensor]
) -> None:
    """Adds the bias of `lora_bias` to the module's own."""
    if "B.bias" not in parts:
        return
    name = place.removesuffix("weight") + "bias"
    extra = adapter.scale(module, parts["A"].shape[0]) * parts["B.bias"].float32()
    bias = tensors[name].float32() if name in tensors else np.float32(0)
    tensors[name] = from_array(name, (bias + extra).astype(np.float32))
