"""MPNet: BERT with relative positions besides absolute ones, and the sentence encoders built on it.

Song et al. 2020, arXiv:2004.09297. Weights are named as transformers' `MPNetModel` saves them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.relative import relative_bias
from omnivec.validation.typed import Among, Count, Divides, Rate, Size

CLAIMS = {"model_type": ["mpnet"], "modality": "text"}

# The published code has these constants, whatever the config says about padding and distances.
_PADDING = 1
_BUCKETS, _FURTHEST = 32, 128


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on."""

    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Annotated[Size, Divides("hidden_size")]
    intermediate_size: Size
    max_position_embeddings: Size
    layer_norm_eps: Rate = 1e-12
    hidden_dropout_prob: Rate = 0.1
    attention_probs_dropout_prob: Rate = 0.1

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return self.hidden_size

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included: positions begin after that of the padding."""
        return self.max_position_embeddings - _PADDING - 1


@dataclass(frozen=True)
class Published:
    """Further keys of config.json, checked since other values would mean a different computation."""

    hidden_act: Annotated[str, Among(("gelu",))] = "gelu"
    relative_attention_num_buckets: Annotated[int, Among((_BUCKETS,))] = _BUCKETS


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, hidden) float32."""
    not_padding = ops.not_equal(batch.ids, _PADDING)
    positions = ops.cast(ops.cumsum(not_padding, 1) * not_padding + _PADDING, "int32")
    x = ops.embedding(batch.ids, p["embeddings.word_embeddings.weight"])
    x = x + ops.embedding(positions, p["embeddings.position_embeddings.weight"])
    x = ops.layer_norm(x, p["embeddings.LayerNorm"], config.layer_norm_eps)
    x = ops.state(ops.dropout(x, config.hidden_dropout_prob))
    bias = relative_bias(ops, p["encoder.relative_attention_bias.weight"], x, _BUCKETS, _FURTHEST)
    bias = bias + ops.padding_bias(batch.mask)
    for i in range(config.num_hidden_layers):
        x = ops.state(_layer(ops, p[f"encoder.layer.{i}"], config, x, bias))
    return x


def _layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """One post-norm block: norm(x + attention(x)), then norm(x + feed-forward(x))."""
    rate, eps = config.hidden_dropout_prob, config.layer_norm_eps
    y = _attention(ops, p["attention.attn"], config, x, bias)
    x = ops.layer_norm(x + ops.dropout(y, rate), p["attention.LayerNorm"], eps)
    y = ops.linear(ops.gelu(ops.linear(x, p["intermediate.dense"])), p["output.dense"])
    return ops.layer_norm(x + ops.dropout(y, rate), p["output.LayerNorm"], eps)


def _attention(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """Multi-head self-attention with a bias for distances: (n, t, hidden) -> (n, t, hidden)."""
    h, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    q, k, v = (
        ops.transpose(ops.reshape(ops.linear(x, p[name]), (0, 0, h, d)), (0, 2, 1, 3)) for name in "qkv"
    )
    y = ops.attention(q, k, v, bias, d**-0.5, config.attention_probs_dropout_prob)
    return ops.linear(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d)), p["o"])


SHAPES = {
    "embeddings.word_embeddings.weight": ("vocab_size", "hidden_size"),
    "embeddings.position_embeddings.weight": ("max_position_embeddings", "hidden_size"),
    "encoder.relative_attention_bias.weight": ("", "num_attention_heads"),
    "encoder.layer.0.intermediate.dense.weight": ("intermediate_size", "hidden_size"),
}

PREFIXES = ("mpnet.", "0.auto_model.", "auto_model.", "model.", "module.")

LAYOUTS = [
    # Heads and buffers that embeddings do not need.
    (r"(lm_head|classifier|qa_outputs|pooler)\..*", None),
    (r"embeddings\.position_ids", None),
]

KNOWN: dict[str, Any] = {}
