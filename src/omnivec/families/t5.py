"""T5, mT5 and UMT5: their encoders, and the sentence encoders built on them (sentence-T5, GTR).

Raffel et al. 2020, arXiv:1910.10683; Ni et al. 2021, arXiv:2108.08877. Weights are named as transformers'
`T5EncoderModel` saves them; the decoder of a whole model is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from omnivec.errors import UnsupportedModel
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.relative import relative_bias
from omnivec.validation.typed import Among, Count, Rate, Size

CLAIMS = {"model_type": ["t5", "mt5", "umt5"], "modality": "text"}

POOLING = "mean"

# The limit in tokens for a folder that states none; relative positions themselves have no limit.
USUAL_LENGTH = 512

# The activation of each feed_forward_proj: with a gate, "gelu" is the tanh formula, without one the exact function.
_FEED_FORWARDS: dict[str, Callable[[Ops, Value], Value]] = {
    "relu": lambda ops, x: ops.relu(x),
    "gelu": lambda ops, x: ops.gelu(x),
    "gated-gelu": lambda ops, x: ops.gelu(x, "tanh"),
    "gated-relu": lambda ops, x: ops.relu(x),
    "gated-silu": lambda ops, x: ops.silu(x),
}

_TABLE = "layer.0.SelfAttention.relative_attention_bias.weight"


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on."""

    model_type: str
    vocab_size: Size
    d_model: Size
    d_kv: Size
    d_ff: Size
    num_layers: Count
    num_heads: Size
    feed_forward_proj: Annotated[str, Among(_FEED_FORWARDS)] = ""
    relative_attention_num_buckets: Size = 32
    relative_attention_max_distance: Size = 128
    layer_norm_epsilon: Rate = 1e-6
    dropout_rate: Rate = 0.1

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return self.d_model

    @property
    def max_length(self) -> int:
        """Longest text in tokens: more than memory holds, since relative positions have no limit."""
        return 1 << 20

    @property
    def network(self) -> str:
        """The type of feed-forward network: a key of _FEED_FORWARDS."""
        return self.feed_forward_proj or ("relu" if self.model_type == "t5" else "gated-gelu")


@dataclass(frozen=True)
class Published:
    """Further keys of config.json, checked since other values would mean a different computation."""

    is_decoder: Annotated[bool, Among((False,))] = False
    dense_act_fn: str | None = None
    is_gated_act: bool | None = None


def check_supported(published: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel if two keys of a config contradict each other about the feed-forward network."""
    feed_forward = published.get("feed_forward_proj") or (
        "gated-gelu" if published.get("model_type") in ("mt5", "umt5") else "relu"
    )
    gated, _, act = feed_forward.rpartition("-")
    implied = {
        "dense_act_fn": "gelu_new" if feed_forward == "gated-gelu" else act,
        "is_gated_act": gated == "gated",
    }
    for key, value in implied.items():
        if published.get(key) not in (None, value):
            raise UnsupportedModel(
                f"{key} {published[key]!r} is not covered beside feed_forward_proj {feed_forward!r}, only {value!r} is"
            )


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, d_model) float32."""
    x = ops.dropout(ops.embedding(batch.ids, p["shared.weight"]), config.dropout_rate)
    padding = ops.padding_bias(batch.mask)
    count, furthest = config.relative_attention_num_buckets, config.relative_attention_max_distance
    for i in range(config.num_layers):
        x, block = ops.state(x), p[f"encoder.block.{i}"]
        # All blocks of T5 share the first block's table of distances; each block of UMT5 has its own.
        if i == 0 or config.model_type == "umt5":
            bias = relative_bias(ops, block[_TABLE], x, count, furthest) + padding
        x = x + _self_attention(ops, block["layer.0"], config, x, bias)
        x = x + _feed_forward(ops, block["layer.1"], config, x)
    x = ops.rms_norm(x, p["encoder.final_layer_norm.weight"], config.layer_norm_epsilon)
    return ops.state(ops.dropout(x, config.dropout_rate))


def _self_attention(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """The output of attention, which is added to x. Products are not scaled by d^-0.5, as T5's weights allow for it."""
    h, d, rate = config.num_heads, config.d_kv, config.dropout_rate
    y = ops.rms_norm(x, p["layer_norm.weight"], config.layer_norm_epsilon)
    q, k, v = (
        ops.transpose(ops.reshape(ops.linear(y, p[f"SelfAttention.{name}"]), (0, 0, h, d)), (0, 2, 1, 3))
        for name in ("q", "k", "v")
    )
    y = ops.transpose(ops.attention(q, k, v, bias, 1.0, rate), (0, 2, 1, 3))
    return ops.dropout(ops.linear(ops.reshape(y, (0, 0, h * d)), p["SelfAttention.o"]), rate)


def _feed_forward(ops: Ops, p: Params, config: Config, x: Value) -> Value:
    """The output of the feed-forward network: wo(act(wi x)), or with a gate wo(act(wi_0 x) * wi_1 x)."""
    y, p = ops.rms_norm(x, p["layer_norm.weight"], config.layer_norm_epsilon), p["DenseReluDense"]
    act = _FEED_FORWARDS[config.network]
    if config.network.startswith("gated-"):
        y = act(ops, ops.linear(y, p["wi_0"])) * ops.linear(y, p["wi_1"])
    else:
        y = act(ops, ops.linear(y, p["wi"]))
    return ops.dropout(ops.linear(ops.dropout(y, config.dropout_rate), p["wo"]), config.dropout_rate)


SHAPES = {
    "shared.weight": ("vocab_size", "d_model"),
    "encoder.block.0.layer.0.SelfAttention.q.weight": ("num_heads * d_kv", "d_model"),
    f"encoder.block.0.{_TABLE}": ("relative_attention_num_buckets", "num_heads"),
    "encoder.block.0.layer.1.DenseReluDense.wo.weight": ("d_model", "d_ff"),
}

PREFIXES = ("transformer.", "0.auto_model.", "auto_model.", "model.", "module.")

LAYOUTS = [
    (r"encoder\.embed_tokens\.weight", "shared.weight"),
    # The decoder, and heads that embeddings do not need.
    (r"(decoder|lm_head|classifier|classification_head|qa_outputs)\..*", None),
]

KNOWN: dict[str, Any] = {}
