"""ModernBERT: rotary positions, alternating local and global attention, gated feed-forward networks.

Warner et al. 2024, arXiv:2412.13663. Weights are named as transformers' `ModernBertModel` saves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from omnivec.families._attention import packed_attention
from omnivec.ops import rotary
from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.window import window_bias
from omnivec.validation.typed import Among, Base, Count, Divides, Length, Positions, Rate, Size

CLAIMS = {"model_type": ["modernbert"], "modality": "text"}

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
# For each type of layer: the older key for the base of its rotary positions, and the default of that base.
_BASES = {_GLOBAL: ("global_rope_theta", 160_000.0), _LOCAL: ("local_rope_theta", 10_000.0)}


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on.

    Attributes:
        local_attention: window of local attention: a token attends to half of it on either side.
        layer_types: for each layer, "full_attention" or "sliding_attention".
        rope_parameters: for each type of layer, its rotary positions; see `ops.rotary`.
    """

    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Annotated[Size, Divides("hidden_size")]
    intermediate_size: Size
    layer_types: Annotated[tuple[Annotated[str, Among(_BASES)], ...], Length("num_hidden_layers")]
    rope_parameters: Mapping[str, Mapping[str, Any]]
    max_position_embeddings: Positions = 8192
    hidden_activation: Activation = "gelu"
    norm_eps: Rate = 1e-5
    local_attention: Size = 128
    attention_dropout: Rate = 0.0
    embedding_dropout: Rate = 0.0
    mlp_dropout: Rate = 0.0

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
    """Further keys of config.json that are read, older names included."""

    global_attn_every_n_layers: Count = 3
    global_rope_theta: Base = 160_000.0
    local_rope_theta: Base = 10_000.0
    rope_scaling: rotary.Published | None = None
    rope_parameters: rotary.Layered | None = None


def canonical(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """The published config with `layer_types` and `rope_parameters`, for which older files have other keys."""
    every, count = published.get("global_attn_every_n_layers", 3), published["num_hidden_layers"]
    types = published.get("layer_types") or [_LOCAL if i % every else _GLOBAL for i in range(count)]
    longest = published.get("max_position_embeddings", Config.max_position_embeddings)
    scaled, rope = published.get("rope_scaling") or {}, published.get("rope_parameters") or {}
    tables = {
        kind: rotary.canonical(rope.get(kind) or scaled, published.get(name, base), longest)
        for kind, (name, base) in _BASES.items()
    }
    return {**published, "layer_types": tuple(types), "rope_parameters": tables}


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, hidden) float32."""
    x = ops.embedding(batch.ids, p["embeddings.tok_embeddings.weight"])
    x = ops.dropout(ops.layer_norm(x, p["embeddings.norm"], config.norm_eps), config.embedding_dropout)
    bias, width = ops.padding_bias(batch.mask), config.hidden_size // config.num_attention_heads
    window = window_bias(ops, batch.ids, config.local_attention // 2 + 1)
    views = {
        layer_type: (
            bias + window if layer_type == _LOCAL else bias,
            rotary.rotation(ops, batch.ids, rope, width, batch.limit),
        )
        for layer_type, rope in config.rope_parameters.items()
    }
    for i, layer_type in enumerate(config.layer_types):
        x = _layer(ops, p[f"layers.{i}"], config, ops.state(x), *views[layer_type])
    return ops.state(ops.layer_norm(x, p["final_norm"], config.norm_eps))


def _layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value, rotated: tuple[Value, Value]) -> Value:
    """One pre-norm block: x + attention(norm(x)), then x + feed-forward(norm(x))."""
    # The embeddings are already normalised, so the first layer has no norm before attention.
    y = ops.layer_norm(x, p["attn_norm"], config.norm_eps) if "attn_norm" in p else x
    y = ops.linear(packed_attention(ops, p["attn"], config, y, bias, rotated), p["attn.Wo"])
    x = x + ops.dropout(y, config.attention_dropout)
    both = ops.linear(ops.layer_norm(x, p["mlp_norm"], config.norm_eps), p["mlp.Wi"])
    inner = config.intermediate_size
    y = ACTIVATIONS[config.hidden_activation](ops, both[..., :inner]) * both[..., inner:]
    return x + ops.linear(ops.dropout(y, config.mlp_dropout), p["mlp.Wo"])


SHAPES = {
    "embeddings.tok_embeddings.weight": ("vocab_size", "hidden_size"),
    "layers.0.mlp.Wo.weight": ("hidden_size", "intermediate_size"),
}

PREFIXES = ("model.", "0.auto_model.", "auto_model.", "module.")

LAYOUTS = [
    # Heads that embeddings do not need.
    (r"(head|decoder|classifier)\..*", None),
]

KNOWN: dict[str, dict[str, Any]] = {}
