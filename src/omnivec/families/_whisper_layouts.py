"""Whisper in the layout of CTranslate2, as faster-whisper and packages for CPUs use it: config.json and model.bin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.weights import Row, Weights, rename
from omnivec.weights.ctranslate2 import read_ctranslate2

FILE = "model.bin"

_SIDE = r"(encoder|decoder)/"
_LAYER = _SIDE + r"layer_(\d+)/"
_NEW = r"\1.layers.\2."


def _norm(old: str, new: str) -> list[Row]:
    return [(rf"{old}layer_norm/{a}", f"{new}.{b}") for a, b in (("gamma", "weight"), ("beta", "bias"))]


def _linear(old: str, *new: str) -> Row:
    """A linear map, or several that are stacked to one."""
    names = tuple(rf"{_NEW}{name}.\3" for name in new)
    return (rf"{_LAYER}{old}/(weight|bias)", names if len(names) > 1 else names[0])


ROWS: list[Row] = [
    (r"encoder/(conv\d)/(weight|bias)", r"encoder.\1.\2"),
    (_SIDE + "position_encodings/encodings", r"\1.embed_positions.weight"),
    ("decoder/(embeddings|projection)/weight", "decoder.embed_tokens.weight"),
    _linear("self_attention/linear_0", *(f"self_attn.{name}_proj" for name in "qkv")),
    _linear("self_attention/linear_1", "self_attn.out_proj"),
    _linear("attention/linear_0", "encoder_attn.q_proj"),
    _linear("attention/linear_1", *(f"encoder_attn.{name}_proj" for name in "kv")),
    _linear("attention/linear_2", "encoder_attn.out_proj"),
    _linear("ffn/linear_0", "fc1"),
    _linear("ffn/linear_1", "fc2"),
    *_norm(_SIDE, r"\1.layer_norm"),
    *_norm(_LAYER + "self_attention/", _NEW + "self_attn_layer_norm"),
    *_norm(_LAYER + "attention/", _NEW + "encoder_attn_layer_norm"),
    *_norm(_LAYER + "ffn/", _NEW + "final_layer_norm"),
    # Settings, which are tensors too.
    (
        _SIDE
        + r"(num_heads|activation|\w*alibi\w*|pre_norm|scale_embeddings|start_from_zero_embedding|alignment_\w+)",
        None,
    ),
]

# Settings with the only value that is covered: GELU is 3.
_FIXED = {"activation": 3, "alibi": 0, "pre_norm": 1, "scale_embeddings": 0}


def from_ctranslate2(folder: Path, published: Mapping[str, Any]) -> tuple[dict[str, Any], Weights]:
    """Reads the model in a folder of CTranslate2.

    Args:
        folder: of the model.
        published: its config.json, with options of omnivec.

    Returns:
        The config as transformers would state it, and the weights by transformers' names.

    Raises:
        UnsupportedModel: it is of another kind, or a variant that is not covered.
        WeightsError: model.bin is missing, damaged or incomplete.
    """
    stored = read_ctranslate2(folder / FILE)
    if stored.metadata["spec"] != "WhisperSpec":
        raise UnsupportedModel(f"{folder / FILE}: {stored.metadata['spec']!r}; only 'WhisperSpec' is covered")
    for name, value in _FIXED.items():
        for side in ("encoder", "decoder"):
            found = int(stored[f"{side}/{name}"].data) if f"{side}/{name}" in stored else value
            if found != value:
                raise UnsupportedModel(f"{folder / FILE}: {side}/{name} {found}; only {value} is covered")
    tensors = dict(rename(stored, ROWS))
    for name in [name for name in tensors if name.endswith("k_proj.bias")]:
        # Keys have no bias; the stack of three maps has zeros there.
        if np.any(tensors.pop(name).data):
            raise WeightsError(f"{folder / FILE}: {name} is not zero, where Whisper has no bias: damaged")
    options = {key: published[key] for key in ("layer", "fast") if published.get(key) is not None}
    suppressed = {
        "suppress_tokens": published.get("suppress_ids"),
        "begin_suppress_tokens": published.get("suppress_ids_begin"),
    }
    return {**_config(stored, tensors, folder), **suppressed, **options}, Weights(tensors, stored.files)


def _config(stored: Weights, tensors: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The config, from the shapes of the weights and the numbers of heads."""
    try:
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        dim, bands, _ = shapes["encoder.conv1.weight"]
        config = {
            "model_type": "whisper",
            "d_model": dim,
            "num_mel_bins": bands,
            "vocab_size": shapes["decoder.embed_tokens.weight"][0],
            "max_source_positions": shapes["encoder.embed_positions.weight"][0],
            "max_target_positions": shapes["decoder.embed_positions.weight"][0],
            "encoder_ffn_dim": shapes["encoder.layers.0.fc1.weight"][0],
            "decoder_ffn_dim": shapes["decoder.layers.0.fc1.weight"][0],
        }
        for side in ("encoder", "decoder"):
            norms = [
                name for name in shapes if name.startswith(f"{side}.layers.") and name.endswith(".fc1.weight")
            ]
            config[f"{side}_layers"] = len(norms)
            config[f"{side}_attention_heads"] = int(stored[f"{side}/num_heads"].data)
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{folder / FILE} is incomplete: {error} is missing or has another shape"
        ) from error
    return config
