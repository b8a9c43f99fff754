"""Jina embeddings v2: BERT with linear biases for positions (ALiBi) and gated feed-forward networks.

Günther et al. 2023, arXiv:2310.19923; Press et al. 2021, arXiv:2108.12409. Weights are named as published: those of
jina-embeddings-v2-small-en and base-en, and of base-code, which normalises queries, keys and residuals once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Among, Count, Divides, Positions, Rate, Size

CLAIMS = {
    "model_type": ["jina_bert"],
    "where": {"model_type": ["bert"], "position_embedding_type": ["alibi"]},
    "modality": "text",
}

# The auto_map of its configs names the publisher's own code, whose computation this family repeats.
OWN_CODE = True

_GATES = {"geglu": "gelu", "reglu": "relu"}


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on."""

    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Annotated[Size, Divides("hidden_size")]
    intermediate_size: Size
    max_position_embeddings: Positions
    hidden_act: Activation = "gelu"
    feed_forward_type: Annotated[str, Among((*_GATES, "original"))] = "original"
    layer_norm_eps: Rate = 1e-12
    hidden_dropout_prob: Rate = 0.1
    attention_probs_dropout_prob: Rate = 0.1

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return self.hidden_size

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included: as published, though ALiBi itself has no limit."""
        return self.max_position_embeddings


@dataclass(frozen=True)
class Published:
    """Further keys of config.json, checked since other values would mean a different computation."""

    position_embedding_type: Annotated[str, Among(("alibi",))] = "alibi"
    is_decoder: Annotated[bool, Among((False,))] = False
    add_cross_attention: Annotated[bool, Among((False,))] = False


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, hidden) float32."""
    x = ops.embedding(batch.ids, p["embeddings.word_embeddings.weight"])
    x = x + p["embeddings.token_type_embeddings.weight"][0]
    x = ops.layer_norm(x, p["embeddings.LayerNorm"], config.layer_norm_eps)
    x = ops.state(ops.dropout(x, config.hidden_dropout_prob))
    bias = _linear_bias(ops, config, batch)
    for i in range(config.num_hidden_layers):
        x = ops.state(_layer(ops, p[f"encoder.layer.{i}"], config, x, bias))
    return x


def _linear_bias(ops: Ops, config: Config, batch: Any) -> Value:
    """Symmetric ALiBi without the heads' slopes (n, 1, t, t): -|i - j| for positions i and j.

    Padding gets -1e4 or less, whichever head's slope multiplies it.
    """
    place = ops.cast(ops.arange(batch.ids, 1), "float32")
    step = place[None, :] - place[:, None]
    flattest = float(_slopes(config.num_attention_heads).min())
    return ops.padding_bias(batch.mask) * (1.0 / flattest) - ops.maximum(step, -step)


def _slopes(heads: int) -> NDArray[np.float32]:
    """The slope of each head, 2^(-8k / heads) for k = 1 ... heads: Press et al. 2021, section 3.

    If the number of heads is not a power of two, the slopes of the next lower power p are followed by every other slope
    of 2p. For 6 heads: 2^-2, 2^-4, 2^-6, 2^-8, then 2^-1 and 2^-3.
    """
    power = 1 << (heads.bit_length() - 1)
    odd = np.arange(1, 2 * (heads - power), 2) / 2
    return np.exp2(-8 * np.concatenate([np.arange(1, power + 1), odd]) / power).astype(np.float32)


def _layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """One post-norm block: norm(x + attention(x)), then norm(x + feed-forward(x))."""
    rate, eps = config.hidden_dropout_prob, config.layer_norm_eps
    y = ops.linear(_attention(ops, p["attention.self"], config, x, bias), p["attention.output.dense"])
    y = ops.layer_norm(x + ops.dropout(y, rate), p["attention.output.LayerNorm"], eps)
    x = ops.layer_norm(x + y, p["layer_norm_1"], eps) if "layer_norm_1" in p else y
    y, norm = _feed_forward(ops, p, config, x)
    return ops.layer_norm(x + y, norm, eps)


def _feed_forward(ops: Ops, p: Params, config: Config, x: Value) -> tuple[Value, Params]:
    """The output of the feed-forward network, and the norm that follows. "up_gated_layer" has the gate last."""
    rate, inner = config.hidden_dropout_prob, config.intermediate_size
    act = _GATES.get(config.feed_forward_type, config.hidden_act)
    if config.feed_forward_type == "original":
        y = ops.linear(ACTIVATIONS[act](ops, ops.linear(x, p["intermediate.dense"])), p["output.dense"])
        return ops.dropout(y, rate), p["output.LayerNorm"]
    if "mlp.up_gated_layer" in p:
        both = ops.linear(x, p["mlp.up_gated_layer"])
        y = both[..., :inner] * ACTIVATIONS[act](ops, both[..., inner:])
        return ops.linear(ops.dropout(y, rate), p["mlp.down_layer"]), p["layer_norm_2"]
    both = ops.linear(x, p["mlp.gated_layers"])
    y = ACTIVATIONS[act](ops, both[..., :inner]) * both[..., inner:]
    return ops.linear(ops.dropout(y, rate), p["mlp.wo"]), p["mlp.layernorm"]


def _attention(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """Multi-head self-attention before its output projection: (n, t, hidden) -> (n, t, hidden)."""
    h, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    q, k, v = (ops.linear(x, p[name]) for name in ("query", "key", "value"))
    if "layer_norm_q" in p:
        q = ops.layer_norm(q, p["layer_norm_q"], config.layer_norm_eps)
        k = ops.layer_norm(k, p["layer_norm_k"], config.layer_norm_eps)
    q, k, v = (ops.transpose(ops.reshape(y, (0, 0, h, d)), (0, 2, 1, 3)) for y in (q, k, v))
    y = ops.alibi_attention(q, k, v, bias, _slopes(h), d**-0.5, config.attention_probs_dropout_prob)
    return ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d))


SHAPES = {
    "embeddings.word_embeddings.weight": ("vocab_size", "hidden_size"),
    "encoder.layer.0.attention.self.query.weight": ("", "hidden_size"),
    "encoder.layer.0.output.dense.weight": ("hidden_size", "intermediate_size"),
    "encoder.layer.0.mlp.wo.weight": ("hidden_size", "intermediate_size"),
    "encoder.layer.0.mlp.down_layer.weight": ("hidden_size", "intermediate_size"),
}

PREFIXES = ("bert.", "0.auto_model.", "auto_model.", "model.", "module.")

LAYOUTS = [
    # Heads and buffers that embeddings do not need.
    (r"(cls|lm_head|classifier|qa_outputs|pooler)\..*", None),
    (r"embeddings\.(position_ids|token_type_ids)", None),
    (r"encoder\.alibi", None),
]

KNOWN: dict[str, dict[str, Any]] = {}
