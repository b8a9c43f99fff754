"""Llama, Mistral, Qwen and Gemma: transformer decoders of text, and the embedders built on them.

Touvron et al. 2023, arXiv:2302.13971 and 2307.09288; Jiang et al. 2023, arXiv:2310.06825; Yang et al. 2024,
arXiv:2407.10671; Yang et al. 2025, arXiv:2505.09388; Gemma Team 2024, arXiv:2403.08295 and 2408.00118, and 2025,
arXiv:2503.19786. Weights are named as transformers' `LlamaModel` and similar classes save them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from omnivec.errors import UnsupportedModel
from omnivec.ops import rotary
from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.window import window_bias
from omnivec.validation.typed import (
    Among,
    Base,
    Between,
    Count,
    Divides,
    Index,
    Length,
    Positions,
    Positive,
    Rate,
    Size,
)

CLAIMS = {
    "model_type": ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"],
    "modality": "text",
}

# Models whose auto_map names code in the folder are accepted, if `check_supported` does not refuse them.
OWN_CODE = True

POOLING = "lasttoken"

# Model types whose norms multiply by 1 + w and whose embeddings are multiplied by sqrt(hidden).
_GEMMA = ("gemma", "gemma2", "gemma3_text")
# Model types that normalise queries and keys, head by head.
_NORMED_HEADS = ("qwen3", "gemma3_text")
# Model types that normalise the outputs of attention and network too, before adding them.
_NORMED_OUTPUTS = ("gemma2", "gemma3_text")

_FULL, _SLIDING = "full_attention", "sliding_attention"

Layer = Annotated[str, Among((_FULL, _SLIDING))]
# A bound of attention scores; 0 for none.
Limit = Annotated[float, Between(0.0, 1e6)]

# Defaults of keys that config.json leaves out; a key that is null stays null.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28},
    "qwen3": {"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28, "head_dim": 128},
    "gemma": {"num_key_value_heads": 16, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh"},
    "gemma2": {
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": 50.0,
    },
    "gemma3_text": {
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
    },
}


@dataclass(frozen=True)
class Config:
    """The published config.json, as far as the forward depends on it, in the spelling of `canonical`.

    Attributes:
        hidden_act: of the gated network.
        attention_scale: the factor on the products of queries and keys.
        attn_logit_softcapping: bound of the soft-capped attention scores; 0 for no capping. See `Ops.attention`.
        layer_types: for each layer, "full_attention" or "sliding_attention".
        sliding_window: in sliding attention, tokens attend to each other if less than this many positions apart.
        rope_parameters: for each type of layer, its rotary positions; see `ops.rotary`.
        bidirectional: whether a token attends to later ones too.
    """

    model_type: str
    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Size
    num_key_value_heads: Annotated[Size, Divides("num_attention_heads")]
    head_dim: Size
    max_position_embeddings: Positions
    layer_types: Annotated[tuple[Layer, ...], Length("num_hidden_layers")]
    rope_parameters: Mapping[str, Mapping[str, Any]]
    attention_scale: Positive
    hidden_act: Activation = "silu"
    rms_norm_eps: Rate = 1e-6
    sliding_window: Index = 0
    attn_logit_softcapping: Limit = 0.0
    bidirectional: bool = False
    attention_dropout: Rate = 0.0

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
    """Further keys of config.json that are read."""

    hidden_activation: Activation | None = None
    query_pre_attn_scalar: Positive = 256.0
    rope_theta: Base = 1e4
    rope_local_base_freq: Base = 1e4
    rope_scaling: rotary.Layered | None = None
    rope_parameters: rotary.Layered | None = None
    use_sliding_window: bool = False
    max_window_layers: Index = 28
    sliding_window_pattern: Count = 6
    is_causal: bool = True
    use_bidirectional_attention: bool = False
    auto_map: Mapping[str, Any] | None = None


def canonical(published: Mapping[str, Any]) -> dict[str, Any]:
    """The published config with old and new names of rotary positions, windows and activations made one."""
    model_type = published["model_type"]
    merged = {**_DEFAULTS[model_type], **published}
    heads = merged["num_attention_heads"]
    width = merged.get("head_dim") or merged["hidden_size"] // heads
    layers = _layer_types(merged)
    act = merged.get("hidden_activation" if model_type in _NORMED_OUTPUTS else "hidden_act") or "silu"
    return merged | {
        "num_key_value_heads": merged.get("num_key_value_heads") or heads,
        "head_dim": width,
        # In Gemma's first configs, "gelu" means the tanh formula.
        "hidden_act": "gelu_pytorch_tanh" if act == "gelu" and model_type == "gemma" else act,
        "layer_types": layers,
        "sliding_window": _window(merged) if _SLIDING in layers else 0,
        "rope_parameters": _ropes(merged, layers),
        "attention_scale": (merged["query_pre_attn_scalar"] if model_type in _NORMED_OUTPUTS else width)
        ** -0.5,
        "attn_logit_softcapping": merged.get("attn_logit_softcapping") if model_type == "gemma2" else None,
        "bidirectional": _bidirectional(merged),
    }


def _layer_types(published: Mapping[str, Any]) -> tuple[str, ...]:
    """The type of each layer, as listed in the config or by the rule of the model type."""
    model_type, count = published["model_type"], int(published["num_hidden_layers"])
    if model_type in ("llama", "gemma") or published.get("sliding_window") is None:
        return (_FULL,) * count
    # With layer_types, transformers reads a Mistral config as that of a Ministral.
    if model_type == "mistral" and published.get("layer_types") is None:
        return (_SLIDING,) * count
    if model_type in ("qwen2", "qwen3") and not published.get("use_sliding_window"):
        return (_FULL,) * count
    if published.get("layer_types") is not None:
        return tuple(published["layer_types"])
    if model_type in ("qwen2", "qwen3"):
        return tuple(_FULL if i < published["max_window_layers"] else _SLIDING for i in range(count))
    pattern = 2 if model_type == "gemma2" else published.get("sliding_window_pattern") or 6
    return tuple(_SLIDING if (i + 1) % pattern else _FULL for i in range(count))


def _window(published: Mapping[str, Any]) -> int:
    """The window: tokens attend to each other if less than this many positions apart."""
    width = int(published["sliding_window"])
    if published.get("use_bidirectional_attention"):
        return width // 2 + 1  # Here, the published window counts both sides together.
    # Without causality, the published window is the largest distance, included.
    return width if published.get("is_causal", True) else width + 1


def _ropes(published: Mapping[str, Any], layers: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The rotary positions of each type of layer; sliding layers of Gemma 3 have a separate base."""
    table = published.get("rope_scaling") or published.get("rope_parameters") or {}
    longest, theta = published["max_position_embeddings"], published.get("rope_theta") or 1e4
    if published["model_type"] != "gemma3_text":
        return {layer: rotary.canonical(table, theta, longest) for layer in sorted(set(layers))}
    nested = published.get("rope_parameters") or {}
    bases = {_FULL: theta, _SLIDING: published["rope_local_base_freq"]}
    scaled = {_FULL: published.get("rope_scaling") or {}, _SLIDING: {}}
    return {
        layer: rotary.canonical({**(nested.get(layer) or {}), **scaled[layer]}, bases[layer], longest)
        for layer in sorted(set(layers))
    }


def _bidirectional(published: Mapping[str, Any]) -> bool:
    """Whether tokens attend to later ones: by `is_causal`, or by Gemma 3's `use_bidirectional_attention`."""
    return not published.get("is_causal", True) or bool(published.get("use_bidirectional_attention"))


def check_supported(published: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for variants that compute something else."""
    merged = {**_DEFAULTS[published["model_type"]], **published}
    if merged["model_type"] != "gemma3_text" and merged.get("use_bidirectional_attention"):
        raise UnsupportedModel(
            "use_bidirectional_attention is covered for gemma3_text only; is_causal for all"
        )
    auto_model = (merged.get("auto_map") or {}).get("AutoModel")
    if auto_model and "is_causal" not in merged and "use_bidirectional_attention" not in merged:
        raise UnsupportedModel(
            f"auto_map names code of the model's own, {auto_model}: such models are covered only if config.json has "
            "is_causal"
        )


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, hidden) float32."""
    x = ops.embedding(batch.ids, p["embed_tokens.weight"])
    x = ops.state(x * config.hidden_size**0.5 if config.model_type in _GEMMA else x)
    views = {
        layer_type: _view(ops, config, layer_type, batch) for layer_type in sorted(set(config.layer_types))
    }
    for i, layer_type in enumerate(config.layer_types):
        x = _layer(ops, p[f"layers.{i}"], config, x, *views[layer_type])
        if i + 1 == config.num_hidden_layers:  # As published, the last hidden state is the normalised one.
            x = _norm(ops, p["norm"], config, x)
        x = ops.state(x)
    return x


def _view(ops: Ops, config: Config, layer_type: str, batch: Any) -> tuple[Value, tuple[Value, Value]]:
    """The bias on attention scores and the rotary positions of a type of layer."""
    bias = ops.padding_bias(batch.mask) if config.bidirectional else ops.causal_bias(batch.mask)
    if layer_type == _SLIDING:
        bias = bias + window_bias(ops, batch.ids, config.sliding_window)
    return bias, rotary.rotation(
        ops, batch.ids, config.rope_parameters[layer_type], config.head_dim, batch.limit
    )


def _layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value, turn: tuple[Value, Value]) -> Value:
    """One pre-norm block: x + attention(norm(x)), then x + network(norm(x)); Gemma 2 and 3 also norm what is added."""
    y = _attention(ops, p["self_attn"], config, _norm(ops, p["input_layernorm"], config, x), bias, turn)
    if config.model_type not in _NORMED_OUTPUTS:
        x = x + y
        return x + _network(ops, p["mlp"], config, _norm(ops, p["post_attention_layernorm"], config, x))
    x = x + _norm(ops, p["post_attention_layernorm"], config, y)
    y = _network(ops, p["mlp"], config, _norm(ops, p["pre_feedforward_layernorm"], config, x))
    return x + _norm(ops, p["post_feedforward_layernorm"], config, y)


def _norm(ops: Ops, p: Params, config: Config, x: Value) -> Value:
    """RMS norm; Gemma's multiplies by 1 + weight."""
    weight = p["weight"] + 1.0 if config.model_type in _GEMMA else p["weight"]
    return ops.rms_norm(x, weight, config.rms_norm_eps)


def _attention(
    ops: Ops, p: Params, config: Config, x: Value, bias: Value, turn: tuple[Value, Value]
) -> Value:
    """Grouped-query self-attention: (n, t, hidden) -> (n, t, hidden)."""
    h, kv, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    q, k, v = (
        ops.reshape(ops.linear(x, p[f"{name}_proj"]), (0, 0, count, d))
        for name, count in (("q", h), ("k", kv), ("v", kv))
    )
    if config.model_type in _NORMED_HEADS:
        q, k = _norm(ops, p["q_norm"], config, q), _norm(ops, p["k_norm"], config, k)
    q, k, v = (ops.transpose(y, (0, 2, 1, 3)) for y in (q, k, v))
    q, k = ops.rotary(q, *turn), ops.rotary(k, *turn)
    if h != kv:
        k, v = ops.repeat_heads(k, h // kv), ops.repeat_heads(v, h // kv)
    rate, cap = config.attention_dropout, config.attn_logit_softcapping
    y = ops.attention(q, k, v, bias, config.attention_scale, rate, cap)
    return ops.linear(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d)), p["o_proj"])


def _network(ops: Ops, p: Params, config: Config, x: Value) -> Value:
    """The gated feed-forward network: (n, t, hidden) -> (n, t, hidden)."""
    gate = ACTIVATIONS[config.hidden_act](ops, ops.linear(x, p["gate_proj"]))
    return ops.linear(gate * ops.linear(x, p["up_proj"]), p["down_proj"])


SHAPES = {
    "embed_tokens.weight": ("vocab_size", "hidden_size"),
    "layers.0.self_attn.q_proj.weight": ("num_attention_heads * head_dim", "hidden_size"),
    "layers.0.self_attn.k_proj.weight": ("num_key_value_heads * head_dim", "hidden_size"),
}

PREFIXES = ("model.", "0.auto_model.", "auto_model.", "module.")

LAYOUTS = [
    # Frequencies that older versions stored among the weights.
    (r"(layers\.\d+\.self_attn\.)?rotary_emb\..*", None),
    # Heads that embeddings do not need.
    (r"(lm_head|score|classifier|qa_outputs)\..*", None),
]

KNOWN: dict[str, Any] = {}
