"""ALBERT: BERT with narrow embeddings and one set of weights for all layers.

Lan et al. 2019, arXiv:1909.11942. Weights are named as transformers' `AlbertModel` saves them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Among, Count, Divides, Rate, Size

CLAIMS = {"model_type": ["albert"], "modality": "text"}


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on.

    Attributes:
        num_hidden_groups: number of sets of weights; each is shared by an equal number of consecutive layers.
        inner_group_num: number of blocks in a layer, each with its own weights.
    """

    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Annotated[Size, Divides("hidden_size")]
    intermediate_size: Size
    max_position_embeddings: Size
    num_hidden_groups: Count = 1
    inner_group_num: Count = 1
    hidden_act: Activation = "gelu_new"
    layer_norm_eps: Rate = 1e-12
    hidden_dropout_prob: Rate = 0.0
    attention_probs_dropout_prob: Rate = 0.0

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return self.hidden_size

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included."""
        return self.max_position_embeddings


@dataclass(frozen=True)
class Published:
    """Further keys of config.json, checked since other values would mean a different computation."""

    position_embedding_type: Annotated[str, Among(("absolute",))] = "absolute"


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, hidden) float32."""
    x = ops.embedding(batch.ids, p["embeddings.word_embeddings.weight"])
    x = x + p["embeddings.token_type_embeddings.weight"][0]
    x = x + ops.embedding(ops.arange(batch.ids, 1), p["embeddings.position_embeddings.weight"])
    x = ops.layer_norm(x, p["embeddings.LayerNorm"], config.layer_norm_eps)
    x = ops.dropout(x, config.hidden_dropout_prob)
    x = ops.state(ops.linear(x, p["encoder.embedding_hidden_mapping_in"]))
    bias = ops.padding_bias(batch.mask)
    for i in range(config.num_hidden_layers):
        group = i * config.num_hidden_groups // config.num_hidden_layers
        for j in range(config.inner_group_num):
            block = p[f"encoder.albert_layer_groups.{group}.albert_layers.{j}"]
            x = ops.state(_layer(ops, block, config, x, bias))
    return x


def _layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """One post-norm block: norm(x + attention(x)), then norm(x + feed-forward(x))."""
    y = ops.dropout(_attention(ops, p["attention"], config, x, bias), config.hidden_dropout_prob)
    x = ops.layer_norm(x + y, p["attention.LayerNorm"], config.layer_norm_eps)
    y = ops.linear(ACTIVATIONS[config.hidden_act](ops, ops.linear(x, p["ffn"])), p["ffn_output"])
    return ops.layer_norm(x + y, p["full_layer_layer_norm"], config.layer_norm_eps)


def _attention(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """Multi-head self-attention: (n, t, hidden) -> (n, t, hidden)."""
    h, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    q, k, v = (
        ops.transpose(ops.reshape(ops.linear(x, p[name]), (0, 0, h, d)), (0, 2, 1, 3))
        for name in ("query", "key", "value")
    )
    y = ops.attention(q, k, v, bias, d**-0.5, config.attention_probs_dropout_prob)
    return ops.linear(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d)), p["dense"])


SHAPES = {
    "embeddings.word_embeddings.weight": ("vocab_size", ""),
    "embeddings.position_embeddings.weight": ("max_position_embeddings", ""),
    "encoder.embedding_hidden_mapping_in.weight": ("hidden_size", ""),
    "encoder.albert_layer_groups.0.albert_layers.0.ffn.weight": ("intermediate_size", "hidden_size"),
}

PREFIXES = ("albert.", "0.auto_model.", "auto_model.", "model.", "module.")

LAYOUTS = [
    # Heads and buffers that embeddings do not need.
    (r"(predictions|sop_classifier|classifier|qa_outputs|pooler|pooler_classifier)\..*", None),
    (r"embeddings\.(position_ids|token_type_ids)", None),
]

KNOWN: dict[str, Any] = {}
