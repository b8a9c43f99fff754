"""Any other text model that the library transformers knows.

Its network is built from config.json by transformers; the weights are read here and given to it by their names. Code
from a model's folder is never run. On a CPU the network is converted into a graph, which has to equal it.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from omnivec import weights
from omnivec.errors import MissingExtra, ModelError, UnsupportedModel
from omnivec.families._bridge import UNLIMITED, BridgedNetwork, Rates, is_number, network
from omnivec.ops.base import EngineSettings, Input, Ops, Params, Value
from omnivec.weights.tensor import FLOATING

CLAIMS = {"model_type": [], "otherwise": True, "modality": "text"}

# A config whose auto_map names code of the folder's own is run by transformers' own class, as transformers does unless
# it is told to trust the code.
OWN_CODE = True

# The whole config.json is read, by transformers.
Published = dict

_TOLERANCE = 1e-4
"""Largest difference in float32, relative to the largest value, between a converted network and itself."""

# Tokens, for such a network in a folder that states no limit.
_USUAL = 512

# What config.json holds beside what its vectors hang on.
_BESIDE = (
    r"_attn_implementation|_name_or_path|architectures|attn_implementation|auto_map|dtype|finetuning_task|"
    r"gradient_checkpointing|id2label|initializer_range|label2id|num_labels|output_.*|problem_type|return_dict|"
    r"task_specific_params|tokenizer_class|torch_dtype|torchscript|transformers_version|use_cache"
)


@dataclass(frozen=True)
class Config:
    """What config.json says, and what the network showed when it first ran.

    Attributes:
        model_type: as transformers names it.
        vocab_size: rows of the table of tokens.
        max_length: longest text in tokens, special tokens included.
        said: config.json as JSON, without what changes no vector.
        dropouts: its rates by their keys; or one rate for all of them.
        dim: width of a token's vector.
        states: which of the tensors that the network gives are hidden states of every token; the last is its result.
        causal: whether no token sees those behind it.
        padded: whether padding leaves the vectors of a text as they are.
    """

    model_type: str
    vocab_size: int
    max_length: int
    said: str
    dropouts: Rates = ()
    dim: int = 0
    states: tuple[int, ...] = ()
    causal: bool = False
    padded: bool = True

    @property
    def usual_length(self) -> int:
        """The limit in tokens where the folder states none."""
        return _USUAL if self.max_length == UNLIMITED else self.max_length

    @property
    def network(self) -> BridgedNetwork:
        """Its network, without weights."""
        return network(self.said, self.dropouts, self.padded)


def check_supported(published: Mapping[str, Any]) -> None:
    """Raises MissingExtra without transformers, UnsupportedModel for what it does not know itself."""
    model_type = published.get("model_type")
    if any(importlib.util.find_spec(library) is None for library in ("torch", "transformers")):
        raise MissingExtra(
            f"model_type {model_type!r} is covered by no family: pip install 'omnivec[transformers]' runs it through "
            "transformers"
        )
    from transformers import __version__
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    if model_type not in MODEL_MAPPING_NAMES:
        own_code = (
            " and code from a model's folder (auto_map) is never run," if published.get("auto_map") else ""
        )
        raise UnsupportedModel(
            f"model_type {model_type!r} is covered by no family,{own_code} and transformers {__version__} does "
            "not know it"
        )
    if published.get("quantization_config"):
        raise UnsupportedModel(
            "quantization_config: weights quantized by others are not read; use the model that they were made from"
        )


def canonical(published: Mapping[str, Any]) -> dict[str, Any]:
    """The config in this family's words."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    config = {key: value for key, value in published.items() if not re.fullmatch(_BESIDE, key)}
    networks = MODEL_MAPPING_NAMES[config["model_type"]]
    if not isinstance(networks, str):  # Of several the checkpoint names its own.
        config["architectures"] = [name for name in published.get("architectures") or () if name in networks]
    rates = tuple(
        sorted(
            (key, float(config.pop(key))) for key in list(config) if "drop" in key and is_number(config[key])
        )
    )
    written = json.dumps(config, sort_keys=True)
    built = network(written, rates)
    return {
        "model_type": config["model_type"],
        "vocab_size": built.vocab_size,
        "max_length": built.max_length,
        "said": written,
        "dropouts": rates,
    }


def adapt_weights(
    stored: Mapping[str, weights.Tensor], config: Config
) -> tuple[dict[str, weights.Tensor], Config]:
    """The weights that the network takes, under its names, and the config with what it showed with them.

    Raises:
        WeightsError: weights are missing or of another shape, or the network has no place for some.
    """
    tensors = config.network.match(stored)
    return tensors, replace(config, **_shown(config, tensors))


def pooling(config: Config) -> str:
    """How tokens are pooled where the folder does not say: the last has seen all, or all have."""
    return "lasttoken" if config.causal else "mean"


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, dim) float32."""
    states = ops.foreign(config.network, (batch.ids, batch.mask), p)
    return [ops.state(states[i]) for i in config.states][-1]


def torch_only_reason(tensors: Mapping[str, weights.Tensor], config: Config) -> str | None:
    """Why OpenVINO cannot run this network: it is converted and compared with itself; None where both agree."""
    if not config.padded:
        return "padding changes this network's vectors: torch runs texts of each length by themselves"
    from omnivec.ops import openvino

    def program(ops: Ops, get: Any, p: Params) -> dict[str, Value]:
        states = ops.foreign(config.network, (get("ids"), get("mask")), p)
        return {str(i): states[i] for i in config.states}

    inputs = [Input(name, np.int32, (None, None)) for name in ("ids", "mask")]
    worst, params = 0.0, _params(tensors)
    try:
        converted = openvino.compile_program(program, inputs, tensors, EngineSettings())
        for lengths, padding in (
            ((1,), 0),
            ((7, 4), 0),
            ((16, 3, 9), 5),
            ((min(config.max_length, 300),), 0),
        ):
            batch = _batch(config, lengths, padding)
            got, right = converted.run(batch), config.network.states(batch, params)
            worst = max(worst, *(_difference(got[str(i)], right[i], batch["mask"]) for i in config.states))
    except ModelError as error:
        return f"OpenVINO cannot run this network: {error}"
    if worst > _TOLERANCE:
        return f"converted for OpenVINO this network differs from itself by {worst:.0e}, allowed {_TOLERANCE:.0e}"
    return None


def _shown(config: Config, tensors: Mapping[str, weights.Tensor]) -> dict[str, Any]:
    """What the network does, seen on one text: as it is, behind padding, and with another last token."""
    params, built = _params(tensors), config.network
    plain = _batch(config, (11,), 0)
    longer = {
        "ids": np.pad(plain["ids"], ((0, 0), (0, 6)), constant_values=built.pad_id),
        "mask": np.pad(plain["mask"], ((0, 0), (0, 6))),
    }
    other = {**plain, "ids": np.where(np.arange(11) == 10, plain["ids"][0, 0], plain["ids"])}
    first, behind, changed = (built.states(batch, params) for batch in (plain, longer, other))
    last = len(first) - 1
    per_token = [i for i, state in enumerate(first) if state.ndim == 3 and state.shape[:2] == (1, 11)]
    if last not in per_token:
        raise UnsupportedModel(
            f"model_type {config.model_type!r} gives {first[last].shape} for 11 tokens: no vector for each"
        )
    if last - 1 in per_token and np.array_equal(first[last - 1], first[last]):
        per_token.remove(last - 1)
    whole = np.ones((1, 11), np.int32)
    return {
        "dim": int(first[last].shape[-1]),
        "states": tuple(per_token),
        "causal": _difference(changed[last][:, :10], first[last][:, :10], whole[:, :10]) == 0.0,
        "padded": behind[last].shape[1] == 17
        and _difference(behind[last][:, :11], first[last], whole) <= _TOLERANCE,
    }


def _batch(config: Config, lengths: Sequence[int], padding: int) -> dict[str, Any]:
    """Random ids of these lengths (n, t) int32, padded to the longest and `padding` more, and their mask."""
    width, pad = max(lengths) + padding, config.network.pad_id
    ids = np.random.default_rng(width).integers(0, config.vocab_size, (len(lengths), width))
    ids = np.where(ids == pad, (pad + 1) % config.vocab_size, ids)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int32)
    return {"ids": np.where(mask == 1, ids, pad).astype(np.int32), "mask": mask}


def _difference(a: Any, b: Any, mask: Any) -> float:
    """The largest difference at real tokens, relative to the largest value of b; infinite where shapes differ."""
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    real = mask == 1
    return float(np.abs(a[real] - b[real]).max() / max(float(np.abs(b[real]).max()), 1e-12))


def _params(tensors: Mapping[str, weights.Tensor]) -> Params:
    """Weights as torch tensors that share the file's memory where it is float32."""
    import torch

    floating = {name: tensor for name, tensor in tensors.items() if tensor.dtype in FLOATING}
    return Params(floating, lambda name: torch.from_numpy(floating[name].float32()))


PREFIXES = ("0.auto_model.", "auto_model.", "module.")

LAYOUTS = [
    # TensorFlow's names of a layer norm, in checkpoints of 2019.
    (r"(.*LayerNorm)\.gamma", r"\1.weight"),
    (r"(.*LayerNorm)\.beta", r"\1.bias"),
]

KNOWN: dict[str, dict[str, Any]] = {}
