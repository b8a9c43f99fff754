"""DistilBERT: BERT with half the layers and one kind of token, and the sentence encoders built on it.

Sanh et al. 2019, arXiv:1910.01108. Weights are named as transformers' `DistilBertModel` saves them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Count, Divides, Rate, Size

CLAIMS = {"model_type": ["distilbert"], "modality": "text"}

_EPS = 1e-12


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on.

    Attributes:
        dim: width of a token's vector.
    """

    vocab_size: Size
    dim: Size
    n_layers: Count
    n_heads: Annotated[Size, Divides("dim")]
    hidden_dim: Size
    max_position_embeddings: Size
    activation: Activation = "gelu"
    dropout: Rate = 0.1
    attention_dropout: Rate = 0.1

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included."""
        return self.max_position_embeddings


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, dim) float32."""
    x = ops.embedding(batch.ids, p["embeddings.word_embeddings.weight"])
    x = x + ops.embedding(ops.arange(batch.ids, 1), p["embeddings.position_embeddings.weight"])
    x = ops.layer_norm(x, p["embeddings.LayerNorm"], _EPS)
    x = ops.state(ops.dropout(x, config.dropout))
    bias = ops.padding_bias(batch.mask)
    for i in range(config.n_layers):
        x = ops.state(_layer(ops, p[f"transformer.layer.{i}"], config, x, bias))
    return x


def _layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """One post-norm block: norm(x + attention(x)), then norm(x + feed-forward(x))."""
    y = _attention(ops, p["attention"], config, x, bias)
    x = ops.layer_norm(x + y, p["sa_layer_norm"], _EPS)
    y = ops.linear(ACTIVATIONS[config.activation](ops, ops.linear(x, p["ffn.lin1"])), p["ffn.lin2"])
    return ops.layer_norm(x + ops.dropout(y, config.dropout), p["output_layer_norm"], _EPS)


def _attention(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """Multi-head self-attention: (n, t, dim) -> (n, t, dim)."""
    h, d = config.n_heads, config.dim // config.n_heads
    q, k, v = (
        ops.transpose(ops.reshape(ops.linear(x, p[name]), (0, 0, h, d)), (0, 2, 1, 3))
        for name in ("q_lin", "k_lin", "v_lin")
    )
    y = ops.attention(q, k, v, bias, d**-0.5, config.attention_dropout)
    return ops.linear(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d)), p["out_lin"])


SHAPES = {
    "embeddings.word_embeddings.weight": ("vocab_size", "dim"),
    "embeddings.position_embeddings.weight": ("max_position_embeddings", "dim"),
    "transformer.layer.0.ffn.lin1.weight": ("hidden_dim", "dim"),
}

PREFIXES = ("distilbert.", "0.auto_model.", "auto_model.", "model.", "module.")

LAYOUTS = [
    # Heads and buffers that embeddings do not need.
    (r"(vocab_transform|vocab_layer_norm|vocab_projector|pre_classifier|classifier|qa_outputs)\..*", None),
    (r"embeddings\.position_ids", None),
]

KNOWN: dict[str, Any] = {}
