"""Any other text model that the library transformers knows.

transformers builds the network from config.json; the weights are read here and passed to it by their names. Code from
a model's folder is never run. On a CPU the network is converted to an OpenVINO graph, whose results have to be equal.
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

# A model whose auto_map names code in its folder is run by transformers' own class instead, as transformers itself does
# without trust_remote_code.
OWN_CODE = True

# transformers reads and checks the whole config.json.
Published = dict

_TOLERANCE = 1e-4
"""Largest difference in float32, relative to the largest value, between a converted network and itself."""

# The limit in tokens for a network without one in a folder that states none.
_USUAL = 512

# Keys of config.json on which vectors do not depend.
_BESIDE = (
    r"_attn_implementation|_name_or_path|architectures|attn_implementation|auto_map|dtype|finetuning_task|"
    r"gradient_checkpointing|id2label|initializer_range|label2id|num_labels|output_.*|problem_type|return_dict|"
    r"task_specific_params|tokenizer_class|torch_dtype|torchscript|transformers_version|use_cache"
)


@dataclass(frozen=True)
class Config:
    """The content of config.json, and facts about the network that were found by running it.

    Attributes:
        model_type: as transformers names it.
        vocab_size: rows of the embedding table.
        max_length: longest text in tokens, special tokens included.
        said: config.json as JSON, without keys on which vectors do not depend.
        dropouts: dropout rates by their keys; or one rate for all of them.
        dim: width of a token's vector.
        states: which of the network's output tensors have a state for every token; the last one is its result.
        causal: whether no token attends to later ones.
        padded: whether the vectors of a text do not change when it is padded.
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
        """The limit in tokens if the folder states none."""
        return _USUAL if self.max_length == UNLIMITED else self.max_length

    @property
    def network(self) -> BridgedNetwork:
        """The network of this config, without weights."""
        return network(self.said, self.dropouts, self.padded)


def check_supported(published: Mapping[str, Any]) -> None:
    """Raises MissingExtra without transformers, and UnsupportedModel for a model that it does not know."""
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
            "quantization_config: quantized weights are not read; use the model from which they were made"
        )


def canonical(published: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Config`, from a published config."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    config = {key: value for key, value in published.items() if not re.fullmatch(_BESIDE, key)}
    networks = MODEL_MAPPING_NAMES[config["model_type"]]
    if not isinstance(networks, str):  # If there are several networks, config.json names one.
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
    """The weights that the network takes, by its names, and the config with facts found by running it with them.

    Raises:
        WeightsError: weights are missing or of another shape, or the network has no place for some.
    """
    tensors = config.network.match(stored)
    return tensors, replace(config, **_shown(config, tensors))


def pooling(config: Config) -> str:
    """How tokens are pooled if the folder does not specify it: in a causal model, only the last attends to all."""
    return "lasttoken" if config.causal else "mean"


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, dim) float32."""
    states = ops.foreign(config.network, (batch.ids, batch.mask), p)
    return [ops.state(states[i]) for i in config.states][-1]


def torch_only_reason(tensors: Mapping[str, weights.Tensor], config: Config) -> str | None:
    """Why OpenVINO cannot run this network; None if its converted form computes the same vectors.

    The network is converted, and both forms are run on batches of several lengths and paddings.
    """
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
    """Facts about the network, found by running it on one text: as it is, padded, and with another last token."""
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
            f"model_type {config.model_type!r} gives {first[last].shape} for 11 tokens, not a vector for each"
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
    """A batch of random texts of these lengths: ids and mask (n, t) int32, with `padding` columns of padding more."""
    width, pad = max(lengths) + padding, config.network.pad_id
    ids = np.random.default_rng(width).integers(0, config.vocab_size, (len(lengths), width))
    ids = np.where(ids == pad, (pad + 1) % config.vocab_size, ids)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int32)
    return {"ids": np.where(mask == 1, ids, pad).astype(np.int32), "mask": mask}


def _difference(a: Any, b: Any, mask: Any) -> float:
    """The largest difference outside padding, relative to the largest value of b; infinite if shapes differ."""
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    real = mask == 1
    return float(np.abs(a[real] - b[real]).max() / max(float(np.abs(b[real]).max()), 1e-12))


def _params(tensors: Mapping[str, weights.Tensor]) -> Params:
    """Weights as torch tensors; those stored as float32 share the file's memory."""
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
