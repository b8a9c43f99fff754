"""MPNet: BERT with relative positions besides absolute ones, and the sentence encoders built on it.

Song et al. 2020, arXiv:2004.09297. Weights are named as transformers' `MPNetModel` saves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omnivec.errors import UnsupportedModel
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.relative import relative_bias

CLAIMS = {"model_type": ["mpnet"], "modality": "text"}

# As published, whatever the config says of padding and of distances.
PADDING = 1
BUCKETS, FURTHEST = 32, 128


@dataclass(frozen=True)
class Config:
    """The published config.json, as far as the forward depends on it."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return self.hidden_size

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included: positions begin behind the padding's."""
        return self.max_position_embeddings - PADDING - 1


def refuse(published: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for variants that compute something else."""
    act, count = published.get("hidden_act", "gelu"), published.get("relative_attention_num_buckets", BUCKETS)
    if act != "gelu":
        raise UnsupportedModel(f"hidden_act {act!r}: only 'gelu' is covered")
    if count != BUCKETS:
        raise UnsupportedModel(f"relative_attention_num_buckets {count}: only {BUCKETS} are covered")


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, hidden) float32."""
    real = ops.not_equal(batch.ids, PADDING)
    place = ops.cast(ops.cumsum(real, 1) * real + PADDING, "int32")
    x = ops.embedding(batch.ids, p["embeddings.word_embeddings.weight"])
    x = x + ops.embedding(place, p["embeddings.position_embeddings.weight"])
    x = ops.layer_norm(x, p["embeddings.LayerNorm"], config.layer_norm_eps)
    x = ops.state(ops.dropout(x, config.hidden_dropout_prob))
    bias = relative_bias(ops, p["encoder.relative_attention_bias.weight"], x, BUCKETS, FURTHEST)
    bias = bias + ops.padding_bias(batch.mask)
    for i in range(config.num_hidden_layers):
        x = ops.state(layer(ops, p[f"encoder.layer.{i}"], config, x, bias))
    return x


def layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """One block: attention, then the feed-forward network, each added to its input and then normalised."""
    rate, eps = config.hidden_dropout_prob, config.layer_norm_eps
    y = attention(ops, p["attention.attn"], config, x, bias)
    x = ops.layer_norm(x + ops.dropout(y, rate), p["attention.LayerNorm"], eps)
    y = ops.linear(ops.gelu(ops.linear(x, p["intermediate.dense"])), p["output.dense"])
    return ops.layer_norm(x + ops.dropout(y, rate), p["output.LayerNorm"], eps)


def attention(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """Multi-head self-attention with a bias for distances: (n, t, hidden) -> (n, t, hidden)."""
    h, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    q, k, v = (
        ops.transpose(ops.reshape(ops.linear(x, p[name]), (0, 0, h, d)), (0, 2, 1, 3)) for name in "qkv"
    )
    y = ops.attention(q, k, v, bias, d**-0.5, config.attention_probs_dropout_prob)
    return ops.linear(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d)), p["o"])


PREFIXES = ("mpnet.", "0.auto_model.", "auto_model.", "model.", "module.")

LAYOUTS = [
    # Heads and buffers that no embedding uses.
    (r"(lm_head|classifier|qa_outputs|pooler)\..*", None),
    (r"embeddings\.position_ids", None),
]

KNOWN: dict[str, Any] = {}
