"""GPT, GPT-2 and GPT-Neo: transformer decoders of text, in which a token attends to those before it.

Radford et al. 2018 and 2019 (OpenAI); Black et al. 2021, doi:10.5281/zenodo.5297715. Weights are named and laid out
as transformers' `OpenAIGPTModel`, `GPT2Model` and `GPTNeoModel` save them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.window import window_bias
from omnivec.validation.typed import Among, Count, Divides, Length, Rate, Size

CLAIMS = {"model_type": ["openai-gpt", "gpt2", "gpt_neo"], "modality": "text"}

POOLING = "lasttoken"

# Model types whose linear maps are stored as (in, out).
IN_OUT = ("openai-gpt", "gpt2")


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on.

    Attributes:
        attention_layers: "global" or "local" for each layer.
        window_size: in local attention, a token attends to this many of the last tokens, itself included.
    """

    model_type: str
    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Annotated[Size, Divides("hidden_size")]
    max_position_embeddings: Size
    attention_layers: Annotated[tuple[str, ...], Length("num_hidden_layers")]
    window_size: Size = 256
    activation_function: Activation = "gelu_new"
    layer_norm_epsilon: Rate = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    embedding_dropout: Rate = 0.1
    residual_dropout: Rate = 0.1
    attention_dropout: Rate = 0.1

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return self.hidden_size

    @property
    def max_length(self) -> int:
        """Longest text in tokens."""
        return self.max_position_embeddings

    def scale(self, layer: int) -> float:
        """The factor on the products of queries and keys of a layer."""
        width = self.hidden_size // self.num_attention_heads
        scale = width**-0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale


# Names of GPT and GPT-2, then of GPT-Neo.
ALIASES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "embd_pdrop": "embedding_dropout",
    "resid_pdrop": "residual_dropout",
    "attn_pdrop": "attention_dropout",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "embed_dropout": "embedding_dropout",
    "resid_dropout": "residual_dropout",
}


# Types of consecutive layers, and how many times they are repeated.
Repeat = tuple[tuple[Annotated[str, Among(("global", "local"))], ...], Count]


@dataclass(frozen=True)
class Published:
    """Further keys of config.json that are read: the activation of GPT, the layers of GPT-Neo."""

    afn: Activation = "gelu"
    attention_types: tuple[Repeat, ...] | None = None
    add_cross_attention: Annotated[bool, Among((False,))] = False
    is_causal: Annotated[bool, Among((True,))] = True


def canonical(published: Mapping[str, Any]) -> dict[str, Any]:
    """The published config with the type of each layer, and with the defaults of its model type.

    GPT-Neo's attention_types [[["global", "local"], 2]] becomes ("global", "local", "global", "local").
    """
    config = dict(published)
    if config["model_type"] == "gpt_neo":
        repeats = config.get("attention_types") or [[["global", "local"], 12]]
        layers = tuple(layer_type for kinds, times in repeats for _ in range(times) for layer_type in kinds)
        return config | {"attention_layers": layers, "scale_attn_weights": False}
    config["attention_layers"] = ("global",) * config["n_layer"]
    if config["model_type"] == "openai-gpt":
        # GPT's "gelu" is the activation that others call "gelu_new".
        act = config.pop("afn", None) or "gelu"
        config["activation_function"] = "gelu_new" if act == "gelu" else act
    return config


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, hidden) float32."""
    tokens, places = (
        ("tokens_embed", "positions_embed") if config.model_type == "openai-gpt" else ("wte", "wpe")
    )
    x = ops.embedding(batch.ids, p[f"{tokens}.weight"])
    x = x + ops.embedding(ops.arange(batch.ids, 1), p[f"{places}.weight"])
    x = ops.state(ops.dropout(x, config.embedding_dropout))
    causal = ops.causal_bias(batch.mask)
    biases = {"global": causal}
    if "local" in config.attention_layers:
        biases["local"] = causal + window_bias(ops, batch.ids, config.window_size)
    for i, layer_type in enumerate(config.attention_layers):
        x = _layer(ops, p[f"h.{i}"], config, x, biases[layer_type], config.scale(i))
        # As published, the last hidden state is the normalised one; the layers of GPT already end with a norm.
        if i + 1 == config.num_hidden_layers and config.model_type != "openai-gpt":
            x = ops.layer_norm(x, p["ln_f"], config.layer_norm_epsilon)
        x = ops.state(x)
    return x


def _layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value, scale: float) -> Value:
    """One block of attention and feed-forward network: post-norm in GPT, pre-norm in GPT-2 and GPT-Neo."""
    eps, rate = config.layer_norm_epsilon, config.residual_dropout
    if config.model_type == "openai-gpt":
        x = x + ops.dropout(_attention(ops, p["attn"], config, x, bias, scale), rate)
        x = ops.layer_norm(x, p["ln_1"], eps)
        return ops.layer_norm(x + ops.dropout(_network(ops, p["mlp"], config, x), rate), p["ln_2"], eps)
    y = _attention(ops, p["attn"], config, ops.layer_norm(x, p["ln_1"], eps), bias, scale)
    x = x + ops.dropout(y, rate)
    return x + ops.dropout(_network(ops, p["mlp"], config, ops.layer_norm(x, p["ln_2"], eps)), rate)


def _attention(ops: Ops, p: Params, config: Config, x: Value, bias: Value, scale: float) -> Value:
    """Multi-head self-attention: (n, t, hidden) -> (n, t, hidden)."""
    h, width = config.num_attention_heads, config.hidden_size
    if config.model_type == "gpt_neo":
        p = p["attention"]
        fused = [ops.linear(x, p[name]) for name in ("q_proj", "k_proj", "v_proj")]
    else:
        whole = _map_rows(x, p["c_attn"])
        fused = [whole[..., i * width : (i + 1) * width] for i in range(3)]
    q, k, v = (ops.transpose(ops.reshape(y, (0, 0, h, width // h)), (0, 2, 1, 3)) for y in fused)
    y = ops.attention(q, k, v, bias, scale, config.attention_dropout)
    y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, width))
    return ops.linear(y, p["out_proj"]) if config.model_type == "gpt_neo" else _map_rows(y, p["c_proj"])


def _network(ops: Ops, p: Params, config: Config, x: Value) -> Value:
    """The feed-forward network: (n, t, hidden) -> (n, t, hidden)."""
    if config.model_type == "gpt_neo":
        y = ACTIVATIONS[config.activation_function](ops, ops.linear(x, p["c_fc"]))
        return ops.linear(y, p["c_proj"])
    y = ACTIVATIONS[config.activation_function](ops, _map_rows(x, p["c_fc"]))
    return _map_rows(y, p["c_proj"])


def _map_rows(x: Value, p: Params) -> Value:
    """A linear map whose weight is (in, out), as GPT and GPT-2 store theirs: x (..., in) -> (..., out)."""
    return x @ p["weight"] + p["bias"]


SHAPES = {
    "wte.weight": ("vocab_size", "hidden_size"),
    "wpe.weight": ("max_position_embeddings", "hidden_size"),
    "tokens_embed.weight": ("vocab_size", "hidden_size"),
    "positions_embed.weight": ("max_position_embeddings", "hidden_size"),
}

PREFIXES = ("transformer.", "0.auto_model.", "auto_model.", "model.", "module.")

LAYOUTS = [
    # Causal masks and constants that older versions stored among the weights.
    (r"h\.\d+\.attn\.(attention\.)?(masked_)?bias", None),
    # Heads that embeddings do not need.
    (r"(lm_head|multiple_choice_head|score|classifier|qa_outputs)\..*", None),
]

KNOWN: dict[str, Any] = {}
